// Vectors of one number per lane; a lane is a series. Included inside the namespace of an instruction set.

using F32 = float __attribute__((vector_size(LATENTODE_LANE_BYTES)));
using F64 = double __attribute__((vector_size(LATENTODE_LANE_BYTES)));
using I32 = int32_t __attribute__((vector_size(LATENTODE_LANE_BYTES)));
using I64 = int64_t __attribute__((vector_size(LATENTODE_LANE_BYTES)));

template <class T>
struct Simd;

template <>
struct Simd<float> {
    using Vector = F32;
    using Integers = I32;
    static constexpr int lanes = LATENTODE_LANE_BYTES / 4;
};

template <>
struct Simd<double> {
    using Vector = F64;
    using Integers = I64;
    static constexpr int lanes = LATENTODE_LANE_BYTES / 8;
};

template <class T>
using Vector = typename Simd<T>::Vector;

template <class T>
inline constexpr int lanes_of = Simd<T>::lanes;

template <class V>
struct Element;
template <>
struct Element<F32> {
    using type = float;
    using integer = int32_t;
    using Integers = I32;
};
template <>
struct Element<F64> {
    using type = double;
    using integer = int64_t;
    using Integers = I64;
};

#define INLINE static inline __attribute__((always_inline))

template <class V>
INLINE V splat(typename Element<V>::type x) {
    return x - V{};
}

template <class V>
INLINE typename Element<V>::Integers bits_of(V x) {
    return (typename Element<V>::Integers)x;
}

// Comparisons are false for NaN, so that NaN in `x` comes through `at_most` and `at_least`.
template <class V>
INLINE V at_most(V x, V bound) {
    return x > bound ? bound : x;
}

template <class V>
INLINE V at_least(V x, V bound) {
    return x < bound ? bound : x;
}

// The same in one instruction, which the compiler does not find by itself.
#if defined(__AVX512F__)
INLINE F32 at_most(F32 x, F32 bound) { return (F32)_mm512_maskz_min_ps((__mmask16)0xffff, (__m512)bound, (__m512)x); }
INLINE F32 at_least(F32 x, F32 bound) { return (F32)_mm512_maskz_max_ps((__mmask16)0xffff, (__m512)bound, (__m512)x); }
INLINE F64 at_most(F64 x, F64 bound) { return (F64)_mm512_maskz_min_pd((__mmask8)0xff, (__m512d)bound, (__m512d)x); }
INLINE F64 at_least(F64 x, F64 bound) { return (F64)_mm512_maskz_max_pd((__mmask8)0xff, (__m512d)bound, (__m512d)x); }
#endif

template <class V>
INLINE V absolute(V x) {
    using I = typename Element<V>::Integers;
    using i = typename Element<V>::integer;
    const i sign = (i)1 << (8 * sizeof(i) - 1);
    return (V)((I)x & ~(sign - I{}));
}

template <class V>
INLINE V with_sign_of(V magnitude, V x) {
    using I = typename Element<V>::Integers;
    using i = typename Element<V>::integer;
    const I sign = ((i)1 << (8 * sizeof(i) - 1)) - I{};
    return (V)(((I)magnitude & ~sign) | ((I)x & sign));
}

template <class V>
INLINE V larger(V a, V b) {  // NaN in either comes through
    return a > b ? a : (b >= a ? b : a + b);
}

// a[lane] + a[lane ^ Distance] in the lanes without the bit `Distance`, that of b in the others.
template <int Distance, class V>
INLINE V fold(V a, V b) {
    [[maybe_unused]] typedef typename Element<V>::Integers I;
    constexpr int lanes = sizeof(V) / sizeof(typename Element<V>::type);
#if defined(__GNUC__) && !defined(__clang__)
    I same{}, other{};
    for (int j = 0; j < lanes; ++j) {
        same[j] = (j & Distance) ? lanes + j : j;
        other[j] = (j & Distance) ? lanes + (j ^ Distance) : (j ^ Distance);
    }
    return __builtin_shuffle(a, b, same) + __builtin_shuffle(a, b, other);
#else
    V sum{};
    for (int j = 0; j < lanes; ++j) sum[j] = (j & Distance) ? b[j] + b[j ^ Distance] : a[j] + a[j ^ Distance];
    return sum;
#endif
}

// Sums over the lanes: lane i of the result is that of x[i]. x is destroyed.
template <class V>
INLINE V sums_over_lanes(V* x) {
    constexpr int lanes = sizeof(V) / sizeof(typename Element<V>::type);
    if constexpr (lanes >= 16)
        for (int i = 0; i < 8; ++i) x[i] = fold<8>(x[i], x[i + 8]);
    if constexpr (lanes >= 8)
        for (int i = 0; i < 4; ++i) x[i] = fold<4>(x[i], x[i + 4]);
    if constexpr (lanes >= 4)
        for (int i = 0; i < 2; ++i) x[i] = fold<2>(x[i], x[i + 2]);
    return fold<1>(x[0], x[1]);
}

// The lanes of two vectors in turn, a0 b0 a1 b1 ..: the first half of them, or the second.
template <bool Second, class V>
INLINE V in_turn(V a, V b) {
    [[maybe_unused]] typedef typename Element<V>::Integers I;
    constexpr int lanes = sizeof(V) / sizeof(typename Element<V>::type), from = Second ? lanes / 2 : 0;
#if defined(__GNUC__) && !defined(__clang__)
    I place{};
    for (int j = 0; j < lanes; ++j) place[j] = from + j / 2 + (j & 1 ? lanes : 0);
    return __builtin_shuffle(a, b, place);
#else
    V mixed{};
    for (int j = 0; j < lanes; ++j) mixed[j] = (j & 1 ? b : a)[from + j / 2];
    return mixed;
#endif
}

// Every other lane of a and b, from lane `Odd` on: takes `in_turn` apart.
template <bool Odd, class V>
INLINE V every_other(V a, V b) {
    [[maybe_unused]] typedef typename Element<V>::Integers I;
    constexpr int lanes = sizeof(V) / sizeof(typename Element<V>::type);
#if defined(__GNUC__) && !defined(__clang__)
    I place{};
    for (int j = 0; j < lanes; ++j) place[j] = 2 * j + Odd;
    return __builtin_shuffle(a, b, place);
#else
    V picked{};
    for (int j = 0; j < lanes; ++j) picked[j] = 2 * j < lanes ? a[2 * j + Odd] : b[2 * j + Odd - lanes];
    return picked;
#endif
}

// Four rows [4][lane] as [lane][4], and back.
template <class V>
INLINE void rows_to_quartets(const V* rows, V* quartets) {
    const V even = in_turn<false>(rows[0], rows[2]), even_second = in_turn<true>(rows[0], rows[2]);
    const V odd = in_turn<false>(rows[1], rows[3]), odd_second = in_turn<true>(rows[1], rows[3]);
    quartets[0] = in_turn<false>(even, odd), quartets[1] = in_turn<true>(even, odd);
    quartets[2] = in_turn<false>(even_second, odd_second), quartets[3] = in_turn<true>(even_second, odd_second);
}

template <class V>
INLINE void quartets_to_rows(const V* quartets, V* rows) {
    const V even = every_other<false>(quartets[0], quartets[1]), even_second = every_other<false>(quartets[2], quartets[3]);
    const V odd = every_other<true>(quartets[0], quartets[1]), odd_second = every_other<true>(quartets[2], quartets[3]);
    rows[0] = every_other<false>(even, even_second), rows[2] = every_other<true>(even, even_second);
    rows[1] = every_other<false>(odd, odd_second), rows[3] = every_other<true>(odd, odd_second);
}
