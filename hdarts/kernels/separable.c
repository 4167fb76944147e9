/* Separable convolutions of all edges of a wave: relu, depthwise, pointwise, and the statistics BatchNorm needs.

   One image of one edge is a tile that stays in the cache of a core through all operations; only the input and the
   result y of the pointwise convolution are in main memory. BatchNorm, relu and the weight of the operation are applied
   where y is read. Called by separable.py, which has the equation. MAX_TERMS is the largest number of terms of a node's
   sum. Every function returns 0, or 1 if it is out of memory.

   Layouts, slowest axis first:
     outer   each source and node is a tensor (image, row, column, channel): PyTorch's channels-last
     inner   y (edge, image, chunk, pixel, lane): channels in chunks of V, the last one padded with zeros
     statistics (edge, chunk, lane); weights as in PyTorch, edges first */

#include "depthwise.h"
#include "moments.h"

#define PIXELS 8 /* per step of a pointwise product: as many independent sums */

/* One chunk of statistics or of BatchNorm's weights, or `other` where they are NULL. */
static vec lanes_at(const REAL *of, int64_t at, REAL other) {
    vec x;
    if (of) return ((const vec *)of)[at];
    for (int l = 0; l < V; l++) x[l] = other;
    return x;
}

/* Load a source, or x after its BatchNorm, through relu into the inside of `padded` (chunk, row, column). */
static void load(const Shape *s, const REAL *const *outer, const REAL *x, const REAL *mean, const REAL *rstd,
                 const REAL *gamma, const REAL *beta, int64_t e, int64_t n, vec *padded) {
    int64_t p = padding_of(s), wide = s->width + 2 * p, high = s->height + 2 * p, chunks = chunks_of(s);
    int64_t pixels = s->height * s->width;
    for (int64_t k = 0; k < chunks; k++) {
        int64_t lanes = lanes_of(s, k);
        vec *to = padded + k * high * wide + p * wide + p;
        if (x) {
            const vec *from = (const vec *)x + ((e * s->images + n) * chunks + k) * pixels;
            int64_t at = e * chunks + k;
            vec scale = lanes_at(rstd, at, 1) * lanes_at(gamma, at, 1);
            vec shift = lanes_at(beta, at, 0) - lanes_at(mean, at, 0) * scale;
            for (int64_t r = 0; r < s->height; r++)
                for (int64_t c = 0; c < s->width; c++) to[r * wide + c] = relu(from[r * s->width + c] * scale + shift);
        } else {
            const REAL *from = outer[e / s->nodes] + n * pixels * s->channels + k * V;
            for (int64_t r = 0; r < s->height; r++)
                for (int64_t c = 0; c < s->width; c++)
                    to[r * wide + c] = relu(gather(from + (r * s->width + c) * s->channels, lanes));
        }
    }
}

/* pointwise weights (out, in) -> (in, chunk of outs), or, if `back`, (out, chunk of ins) */
static void load_pointwise(const Shape *s, const REAL *w, int64_t e, int back, vec *to) {
    int64_t c = s->channels, chunks = chunks_of(s);
    w += e * c * c;
    for (int64_t row = 0; row < c; row++)
        for (int64_t k = 0; k < chunks; k++) {
            vec x = {0};
            for (int64_t l = 0; l < lanes_of(s, k); l++)
                x[l] = back ? w[row * c + k * V + l] : w[(k * V + l) * c + row];
            to[row * chunks + k] = x;
        }
}

/* out = sum over channels of x (chunk, row, column) times w (channel, chunk); may read, but does not write, beyond the
   end. Chunk k of pixel (row, column) is stored in out[k * plane + row * wide + column * step]. */
static void pointwise(const vec *x, const vec *w, int64_t channels, int64_t rows, int64_t columns, vec *out,
                      int64_t plane, int64_t wide, int64_t step) {
    int64_t chunks = (channels + V - 1) / V;
    for (int64_t k = 0; k < chunks; k++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t p = 0; p < columns; p += PIXELS) {
                vec a[PIXELS], *to = out + k * plane + r * wide + p * step;
                for (int q = 0; q < PIXELS; q++) a[q] = (vec){0};
                for (int64_t c = 0; c < channels; c++) {
                    const REAL *from = (const REAL *)(x + (c / V * rows + r) * columns + p) + c % V;
                    vec weight = w[c * chunks + k];
                    for (int q = 0; q < PIXELS; q++) a[q] += weight * from[q * V];
                }
                if (p + PIXELS <= columns)
                    for (int q = 0; q < PIXELS; q++) to[q * step] = a[q];
                else
                    for (int64_t q = 0; p + q < columns; q++) to[q * step] = a[q];
            }
}

/* weight gradient: sums (out, chunk of ins) += sum over pixels of g[out] x[ins] */
static void outer_products(const vec *g, const vec *x, int64_t channels, int64_t pixels, vec *sums) {
    enum { OUTS = V < 8 ? V : 8 }; /* at a time, in one chunk */
    int64_t chunks = (channels + V - 1) / V;
    for (int64_t first = 0; first < channels; first += OUTS) {
        const REAL *outs = (const REAL *)(g + first / V * pixels) + first % V;
        for (int64_t k = 0; k < chunks; k++) {
            vec a[OUTS];
            for (int q = 0; q < OUTS; q++) a[q] = (vec){0};
            for (int64_t p = 0; p < pixels; p++) {
                vec here = x[k * pixels + p];
                for (int q = 0; q < OUTS; q++) a[q] += here * outs[p * V + q];
            }
            for (int64_t q = 0; q < OUTS && first + q < channels; q++) sums[(first + q) * chunks + k] += a[q];
        }
    }
}

static vec through_relu(vec g, vec result) { return (vec)((mask)g & (result > 0)); }

/* --- called from Python ------------------------------------------------------------------------------------------ */

/* y, its mean and 1 / sqrt(variance + EPSILON), from the sources `outer`, or, where x is not NULL, from an inner y with
   its BatchNorm: x_gamma (x - x_mean) x_rstd + x_beta, where gamma and beta may be NULL, for 1 and 0. */
int forward(const Shape *s, const REAL *const *outer, const REAL *x, const REAL *x_mean, const REAL *x_rstd,
            const REAL *x_gamma, const REAL *x_beta, const REAL *w_depthwise, const REAL *w_pointwise, REAL *y,
            REAL *mean, REAL *rstd) {
    int64_t edges = edges_of(s), chunks = chunks_of(s), taps = s->kernel * s->kernel, p = padding_of(s);
    int64_t wide = s->width + 2 * p, high = s->height + 2 * p, pixels = pixels_out(s), lanes = edges * chunks * V;
    int failed = 0;
    Moments *moments = calloc(s->threads * lanes, sizeof *moments);
    if (!moments) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *padded = scratch(chunks * (wide * high + pixels + taps + s->channels) + PIXELS);
        if (!padded) { failed = 1; continue; }
        vec *wd = padded + chunks * wide * high, *wp = wd + chunks * taps, *spread = wp + chunks * s->channels;
        memset(padded, 0, chunks * wide * high * sizeof *padded);
        for (int64_t e = 0; e < edges; e++) {
            load_depthwise(s, w_depthwise, e, 0, wd);
            load_pointwise(s, w_pointwise, e, 0, wp);
            for (IMAGES_OF(t)) {
                vec *out = (vec *)y + (e * s->images + n) * chunks * pixels;
                load(s, outer, x, x_mean, x_rstd, x_gamma, x_beta, e, n, padded);
                for (int64_t k = 0; k < chunks; k++)
                    depthwise(s->kernel, padded + k * wide * high, wide, wd + k * taps, rows_out(s), columns_out(s),
                              s->stride, s->dilation, spread + k * pixels);
                pointwise(spread, wp, s->channels, 1, pixels, out, pixels, 0, 1);
                for (int64_t k = 0; k < chunks; k++)
                    add_moments(moments + t * lanes + (e * chunks + k) * V, out + k * pixels, pixels);
            }
        }
    }
    normalisation(moments, s->threads, lanes, mean, rstd);
    free(moments);
    return failed;
}

/* nodes[node] = sum over operations and sources of gamma (y - mean) rstd + beta */
int mix(const Shape *s, int64_t operations, const REAL *const *y, const REAL *const *mean, const REAL *const *rstd,
        const REAL *const *gamma, const REAL *const *beta, REAL *const *nodes) {
    int64_t chunks = chunks_of(s), pixels = pixels_out(s);
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (IMAGES_OF(t))
            for (int64_t node = 0; node < s->nodes; node++)
                for (int64_t k = 0; k < chunks; k++) {
                    const vec *from[MAX_TERMS];
                    vec factor[MAX_TERMS], shift = {0};
                    int count = 0;
                    for (int64_t e = node; e < edges_of(s); e += s->nodes)
                        for (int64_t o = 0; o < operations; o++, count++) {
                            from[count] = (const vec *)y[o] + ((e * s->images + n) * chunks + k) * pixels;
                            int64_t at = e * chunks + k;
                            factor[count] = lanes_at(rstd[o], at, 1) * lanes_at(gamma[o], at, 1);
                            shift += lanes_at(beta[o], at, 0) - lanes_at(mean[o], at, 0) * factor[count];
                        }
                    REAL *to = nodes[node] + n * pixels * s->channels + k * V;
                    for (int64_t p = 0; p < pixels; p++) {
                        vec sum = shift;
                        for (int i = 0; i < count; i++) sum += factor[i] * from[i][p];
                        put(sum, to + p * s->channels, lanes_of(s, k));
                    }
                }
    return 0;
}

/* Sums for the gradient of BatchNorm: sums (2, edge, chunk, lane) = sum of g, sum of g (y - mean). */
int gradient_sums(const Shape *s, const REAL *y, const REAL *mean, const REAL *const *g, double *sums) {
    int64_t edges = edges_of(s), chunks = chunks_of(s), pixels = pixels_out(s), lanes = edges * chunks * V;
    double *parts = calloc(s->threads * 2 * lanes, sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (int64_t e = 0; e < edges; e++)
            for (IMAGES_OF(t))
                for (int64_t k = 0; k < chunks; k++) {
                    const vec *here = (const vec *)y + ((e * s->images + n) * chunks + k) * pixels;
                    const REAL *slope = g[e % s->nodes] + n * pixels * s->channels + k * V;
                    vec middle = ((const vec *)mean)[e * chunks + k], first = {0}, second = {0};
                    for (int64_t p = 0; p < pixels; p++) {
                        vec x = gather(slope + p * s->channels, lanes_of(s, k));
                        first += x;
                        second += x * (here[p] - middle);
                    }
                    double *into = parts + t * 2 * lanes + (e * chunks + k) * V;
                    for (int l = 0; l < V; l++) into[l] += first[l], into[lanes + l] += second[l];
                }
    sum_threads(parts, s->threads, 2 * lanes, sums);
    free(parts);
    return 0;
}

/* Gradients of gamma (y - mean) rstd + beta, for the gradient g in the nodes or `inner` in the values themselves.
   Those in the sources are added to outer_g; those in an inner x are written to gx, with its sums for BatchNorm.
   w_depthwise_g and w_pointwise_g may be NULL: then the weights are constants. */
int backward(const Shape *s, const REAL *const *outer, const REAL *x, const REAL *x_mean, const REAL *x_rstd,
             const REAL *x_gamma, const REAL *x_beta, const REAL *w_depthwise, const REAL *w_pointwise, const REAL *y,
             const REAL *mean, const REAL *rstd, const REAL *gamma, const REAL *const *g, const REAL *inner,
             const double *sums, REAL *const *outer_g, REAL *gx, double *gx_sums, REAL *w_depthwise_g,
             REAL *w_pointwise_g) {
    int64_t edges = edges_of(s), chunks = chunks_of(s), taps = s->kernel * s->kernel, c = s->channels;
    int64_t p = padding_of(s);
    int64_t wide = s->width + 2 * p, high = s->height + 2 * p, pixels = pixels_out(s), area = s->height * s->width;
    int64_t lanes = edges * chunks * V, count = s->images * pixels, of_weights = edges * chunks * (taps + c);
    int failed = 0;
    vec *weight_parts = w_pointwise_g ? calloc(s->threads * of_weights, sizeof(vec)) : NULL;
    double *parts = calloc(s->threads * 2 * lanes, sizeof *parts);
    if (!parts || (w_pointwise_g && !weight_parts)) { free(parts); free(weight_parts); return 1; }
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *padded = scratch(chunks * (2 * wide * high + 2 * taps + c + 2 * pixels) + area + PIXELS);
        if (!padded) { failed = 1; continue; }
        vec *gd = padded + chunks * wide * high, *wd = gd + chunks * wide * high, *flipped = wd + chunks * taps;
        vec *wp = flipped + chunks * taps, *back = wp + chunks * c, *gy = back + area, *spread = gy + chunks * pixels;
        memset(padded, 0, 2 * chunks * wide * high * sizeof *padded);
        for (int64_t e = 0; e < edges; e++) {
            vec *wd_sums = weight_parts + t * of_weights + e * chunks * (taps + c), *wp_sums = wd_sums + chunks * taps;
            load_depthwise(s, w_depthwise, e, 0, wd);
            load_depthwise(s, w_depthwise, e, 1, flipped);
            load_pointwise(s, w_pointwise, e, 1, wp);
            for (IMAGES_OF(t)) {
                load(s, outer, x, x_mean, x_rstd, x_gamma, x_beta, e, n, padded);
                /* through BatchNorm: gy = factor (g - first - (y - mean) second) */
                for (int64_t k = 0; k < chunks; k++) {
                    int64_t at = e * chunks + k;
                    const vec *here = (const vec *)y + ((e * s->images + n) * chunks + k) * pixels;
                    vec middle = ((const vec *)mean)[at], r = ((const vec *)rstd)[at], first, second;
                    for (int l = 0; l < V; l++) {
                        first[l] = sums[at * V + l] / count;
                        second[l] = sums[lanes + at * V + l] / count;
                    }
                    second *= r * r;
                    vec factor = r * lanes_at(gamma, at, 1);
                    const vec *from = (const vec *)inner + ((e * s->images + n) * chunks + k) * pixels;
                    const REAL *slope = inner ? NULL : g[e % s->nodes] + n * pixels * c + k * V;
                    for (int64_t q = 0; q < pixels; q++) {
                        vec one = inner ? from[q] : gather(slope + q * c, lanes_of(s, k));
                        gy[k * pixels + q] = factor * (one - first - (here[q] - middle) * second);
                    }
                }
                /* gd has the layout of the image, with zeros around it and, at stride 2, between its pixels */
                pointwise(gy, wp, c, rows_out(s), columns_out(s), gd + p * wide + p, wide * high, s->stride * wide,
                          s->stride);
                for (int64_t k = 0; w_pointwise_g && k < chunks; k++) {
                    vec *image = padded + k * wide * high;
                    depthwise(s->kernel, image, wide, wd + k * taps, rows_out(s), columns_out(s), s->stride,
                              s->dilation, spread + k * pixels);
                    correlate(s->kernel, image, gd + k * wide * high + p * wide + p, wide, rows_out(s), columns_out(s),
                              s->stride, s->dilation, wd_sums + k * taps);
                }
                if (w_pointwise_g) outer_products(gy, spread, c, pixels, wp_sums);
                for (int64_t k = 0; k < chunks; k++) {
                    depthwise(s->kernel, gd + k * wide * high, wide, flipped + k * taps, s->height, s->width, 1,
                              s->dilation, back);
                    const vec *seen = padded + k * wide * high + p * wide + p;
                    if (!x) {
                        REAL *to = outer_g[e / s->nodes] + n * area * c + k * V;
                        for (int64_t r = 0; r < s->height; r++)
                            for (int64_t q = 0; q < s->width; q++, to += c) {
                                vec one = through_relu(back[r * s->width + q], seen[r * wide + q]);
                                put(gather(to, lanes_of(s, k)) + one, to, lanes_of(s, k));
                            }
                        continue;
                    }
                    int64_t at = ((e * s->images + n) * chunks + k) * area;
                    vec middle = ((const vec *)x_mean)[e * chunks + k], first = {0}, second = {0};
                    for (int64_t r = 0; r < s->height; r++)
                        for (int64_t q = 0; q < s->width; q++, at++) {
                            vec one = through_relu(back[r * s->width + q], seen[r * wide + q]);
                            ((vec *)gx)[at] = one;
                            first += one;
                            second += one * (((const vec *)x)[at] - middle);
                        }
                    double *into = parts + t * 2 * lanes + (e * chunks + k) * V;
                    for (int l = 0; l < V; l++) into[l] += first[l], into[lanes + l] += second[l];
                }
            }
        }
    }
    if (gx_sums) sum_threads(parts, s->threads, 2 * lanes, gx_sums);
    for (int64_t e = 0; w_pointwise_g && e < edges; e++)
        for (int64_t channel = 0; channel < c; channel++) {
            int64_t start = e * chunks * (taps + c), k = channel / V, l = channel % V;
            for (int64_t i = 0; i < taps; i++) {
                REAL sum = 0;
                for (int64_t t = 0; t < s->threads; t++) sum += weight_parts[t * of_weights + start + k * taps + i][l];
                w_depthwise_g[(e * c + channel) * taps + i] = sum;
            }
            for (int64_t in = 0; in < c; in++) {
                REAL sum = 0;
                const vec *row = weight_parts + start + chunks * taps + channel * chunks + in / V;
                for (int64_t t = 0; t < s->threads; t++) sum += row[t * of_weights][in % V];
                w_pointwise_g[(e * c + channel) * c + in] = sum;
            }
        }
    free(parts);
    free(weight_parts);
    return failed;
}
