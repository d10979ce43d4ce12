// The log likelihood of observed cells under Gaussians of one noise per target, and its gradient. Included inside the
// namespace of an instruction set. Cells that were not observed are read but never used: they may hold anything.

namespace gaussian {

constexpr double half_log_2pi = 0.91893853320467274178;

// Sums over the rows of one series under one sample: squares of the observed residuals, and how many there are.
template <class T>
INLINE void add_series(
    const T* params, const T* values, const uint8_t* mask, int64_t rows, int64_t D, double* squares, double* counts) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t d = 0; d < D; ++d, ++params, ++values, ++mask) {
            const T residual = *mask ? *values - *params : (T)0;
            squares[d] += (double)(residual * residual);
            counts[d] += *mask;
        }
}

template <class T>
INLINE void pull_back_series(
    const T* params, const T* values, const uint8_t* mask, int64_t rows, int64_t D, const double* weight, double of, T* d_params) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t d = 0; d < D; ++d, ++params, ++values, ++mask, ++d_params)
            *d_params = *mask ? (T)(-2 * of * weight[d]) * (*values - *params) : (T)0;
}

// `numbers` is room for four of each target: -1/2 noise^-2, -log noise - log(2 pi) / 2, and two sums.
template <class T>
static void run(const latentode_gaussian* problem, double* numbers) {
    const latentode_gaussian& p = *problem;
    const int64_t D = p.n_targets, cells = p.n_times * D;
    double *weight = numbers, *level = numbers + D, *squares = numbers + 2 * D, *counts = numbers + 3 * D;
    const T *noise = (const T*)p.noise, *values = (const T*)p.values;
    T* d_noise = (T*)p.d_noise;
    for (int64_t d = 0; d < D; ++d) {
        const double std = (double)noise[d];
        weight[d] = -0.5 / (std * std), level[d] = -__builtin_log(std) - half_log_2pi;
    }
    if (p.backward) clear(squares, (size_t)(2 * D));
    for (int64_t k = 0; k < p.n_samples; ++k)
        for (int64_t i = 0; i < p.n_series; ++i) {
            const int64_t place = k * p.n_series + i;
            const T* params = (const T*)p.params + place * cells;
            const uint8_t* mask = p.mask + i * cells;
            if (!p.backward) {
                clear(squares, (size_t)(2 * D));
                add_series(params, values + i * cells, mask, p.n_times, D, squares, counts);
                double sum = 0;
                for (int64_t d = 0; d < D; ++d) sum += weight[d] * squares[d] + level[d] * counts[d];
                ((T*)p.log_lik)[place] = (T)sum;
                continue;
            }
            const double of = (double)((const T*)p.d_log_lik)[place];
            pull_back_series(params, values + i * cells, mask, p.n_times, D, weight, of, (T*)p.d_params + place * cells);
            for (int64_t row = 0, at = 0; row < p.n_times; ++row)  // of squares and counts in the noise's gradient
                for (int64_t d = 0; d < D; ++d, ++at) {
                    const T residual = mask[at] ? values[i * cells + at] - params[at] : (T)0;
                    squares[d] += of * (double)(residual * residual);
                    counts[d] += mask[at] ? of : 0;
                }
        }
    for (int64_t d = 0; p.backward && d < D; ++d)
        d_noise[d] = (T)((-2 * weight[d] * squares[d] - counts[d]) / (double)noise[d]);
}

}  // namespace gaussian
