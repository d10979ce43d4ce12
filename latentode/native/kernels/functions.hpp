// Elementary functions of a vector. Errors are a few units in the last place (tests hold them against mpmath); NaN
// comes through; e^x ends at some 1e-38 and 1e38 (1e-308 and 1e308), where its limits are as good. Included inside the namespace of an instruction set.

template <class V>
struct Constants;

template <>
struct Constants<F32> {
    static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr float exp_lowest = -87.3f, exp_highest = 88.3f;
    static constexpr int mantissa = 23, bias = 127;
    static constexpr int exp_terms = 7;  // powers of a remainder up to ln(2) / 2: below 1e-8
    static constexpr int atanh_terms = 7;  // powers of 1/9
};

template <>
struct Constants<F64> {
    static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
    static constexpr double exp_lowest = -708.0, exp_highest = 709.4;
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr int exp_terms = 13;
    static constexpr int atanh_terms = 17;
};

constexpr double inverse_factorial(int n) { return n <= 1 ? 1.0 : inverse_factorial(n - 1) / n; }

// x = n ln 2 + r: returns e^r - 1, and 2^n in `power`.
template <class V>
INLINE V exp_parts(V x, V& power) {
    using C = Constants<V>;
    using T = typename Element<V>::type;
    using I = typename Element<V>::Integers;
    const T log2e = (T)1.4426950408889634;
    const V shifted = x * log2e + C::round;
    const V n = shifted - C::round;
    V r = x - n * C::ln2_high;
    r = r - n * C::ln2_low;
    V p = splat<V>((T)inverse_factorial(C::exp_terms));
#pragma GCC unroll 16
    for (int k = C::exp_terms - 1; k >= 1; --k) p = p * r + (T)inverse_factorial(k);
    const I exponent = bits_of(shifted) - bits_of(splat<V>(C::round));
    power = (V)((exponent + C::bias) << C::mantissa);
    return p * r;
}

template <class V>
INLINE V clamped_for_exp(V x) {
    using C = Constants<V>;
    return at_most(at_least(x, splat<V>(C::exp_lowest)), splat<V>(C::exp_highest));
}

template <class V>
INLINE V exp_of(V x) {
    V power;
    const V p = exp_parts(clamped_for_exp(x), power);
    return power + power * p;
}

template <class V>
INLINE V expm1_of(V x) {
    V power;
    const V p = exp_parts(clamped_for_exp(x), power);
    return power * p + (power - 1);
}

template <class V>
INLINE V reciprocal(V x) {
    return 1 / x;
}

// Two roundings; 1 / x of a subnormal or infinite x is not needed here.
#if defined(__AVX512F__)
INLINE F32 reciprocal(F32 x) {
    const F32 guess = (F32)_mm512_maskz_rcp14_ps((__mmask16)0xffff, (__m512)x);
    return guess * (2 - x * guess);
}
#endif

// x P(x²) / Q(x²), fitted to tanh on [-9, 9] with relative error 2e-8 before rounding. Beyond, where P and Q stay, it
// grows with x past 1: so a saturated unit is 1 to the last bit, and its slope 1 - tanh² is 0.
INLINE F32 tanh_of(F32 x) {
    const F32 z = at_most(x * x, splat<F32>(81.0f));
    F32 p = z * 1.3318996208889661e-08f + 2.058342687902779e-05f;
    F32 q = z * 7.761988517301369e-07f + 3.2830874553127666e-04f;
    p = p * z + 3.4940312853835153e-03f;
    q = q * z + 2.587106082491742e-02f;
    p = p * z + 1.33797152190365e-01f;
    q = q * z + 4.671303047188989e-01f;
    p = p * z + 9.999999790629637e-01f;
    q = q * z + 1.0f;
    const F32 y = x * p * reciprocal(q);
    return at_least(at_most(y, splat<F32>(1.0f)), splat<F32>(-1.0f));
}

INLINE F64 tanh_of(F64 x) {
    const F64 e = expm1_of(2 * at_most(absolute(x), splat<F64>(20.0)));
    return with_sign_of(e / (e + 2), x);
}

// log(1 + u) for u in [0, 1]: 2 artanh(u / (2 + u))
template <class V>
INLINE V log1p_of(V u) {
    using T = typename Element<V>::type;
    const V s = u / (2 + u), z = s * s;
    V p = splat<V>((T)(1.0 / (2 * Constants<V>::atanh_terms + 1)));
#pragma GCC unroll 20
    for (int k = Constants<V>::atanh_terms - 1; k >= 0; --k) p = p * z + (T)(1.0 / (2 * k + 1));
    return 2 * s * p;
}

template <class V>
INLINE V sigmoid_of(V x) {
    return 1 / (1 + exp_of(-x));
}

template <class V>
INLINE V softplus_of(V x) {
    return at_least(x, V{}) + log1p_of(exp_of(-absolute(x)));
}

// Natural logarithm of positive normal numbers.
INLINE F64 log_of(F64 x) {
    const I64 root_half = bits_of(splat<F64>(0.7071067811865476));
    const I64 shifted = bits_of(x) - root_half;
    const I64 exponent = shifted >> 52;  // floor of log2(x / sqrt(1/2))
    const F64 m = (F64)(bits_of(x) - (exponent << 52));
    const F64 s = (m - 1) / (m + 1), z = s * s;
    F64 p = splat<F64>(1.0 / 23);
#pragma GCC unroll 12
    for (int k = 10; k >= 0; --k) p = p * z + 1.0 / (2 * k + 1);
    const F64 n = __builtin_convertvector(exponent, F64);
    return n * Constants<F64>::ln2_high + (n * Constants<F64>::ln2_low + 2 * s * p);
}

// base^exponent for `n` positive normal bases, a multiple of the lanes; NaN comes through.
INLINE void powers(const double* base, double exponent, double* result, int n) {
    for (int i = 0; i < n; i += lanes_of<double>) {
        F64 x;
        __builtin_memcpy(&x, base + i, sizeof x);
        F64 y = exp_of(exponent * log_of(x));
        y = x == x ? y : x;
        __builtin_memcpy(result + i, &y, sizeof y);
    }
}
