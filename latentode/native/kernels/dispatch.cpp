// Placeholder of the build branch: the two entries that library.py asks for.
#if defined(_WIN32)
#define LATENTODE_EXPORT extern "C" __declspec(dllexport)
#else
#define LATENTODE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

LATENTODE_EXPORT int latentode_abi_version(void) { return 1; }

LATENTODE_EXPORT const char *latentode_isa(void) { return "portable"; }
