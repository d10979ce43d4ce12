// The processor's treatment of numbers below the smallest normal one. Included inside the namespace of an instruction set.

// While it lives, results below the smallest normal number are 0: the cotangents of long series fade through them, at a
// hundred cycles each.
struct NoSubnormals {
#if defined(__x86_64__)
    unsigned before = __builtin_ia32_stmxcsr();
    NoSubnormals() { __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~NoSubnormals() { __builtin_ia32_ldmxcsr(before); }
#endif
};
