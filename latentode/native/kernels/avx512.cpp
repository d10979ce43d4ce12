// Placeholder of the build branch.
