/* Depthwise convolution of channels-last images, and the two maps of its derivatives.

   Each is bilinear: convolve (x, w) -> out, transpose (g, w) -> gradient in x, correlate (x, g) -> gradient in w.
   Called by depthwise.py. x (image, row, column, channel), g and out the same at the size after the stride; w (channel,
   tap). Every function returns 0, or 1 if it is out of memory. */

#include "depthwise.h"

/* Load one chunk of an image (row, column, channel); in `to`, pixels are `step` and rows `step * wide` values apart. */
static void load_chunk(const Shape *s, const REAL *from, int64_t k, int64_t rows, int64_t columns, int64_t wide,
                 int64_t step, vec *to) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            to[(r * wide + c) * step] = gather(from + (r * columns + c) * s->channels + k * V, lanes_of(s, k));
}

static void store_chunk(const Shape *s, const vec *from, int64_t k, int64_t pixels, REAL *to) {
    for (int64_t p = 0; p < pixels; p++) put(from[p], to + p * s->channels + k * V, lanes_of(s, k));
}

/* out = convolve (in, w), or, if `back`, transpose. */
static int spread(const Shape *s, const REAL *in, const REAL *w, int back, REAL *out) {
    int64_t taps = s->kernel * s->kernel, p = padding_of(s), area = s->height * s->width, pixels = pixels_out(s);
    int64_t wide = s->width + 2 * p, high = s->height + 2 * p, from = back ? pixels : area, to = back ? area : pixels;
    Plane of = {rows_out(s), columns_out(s), wide, 1, s->stride, s->dilation};
    if (back) of = (Plane){s->height, s->width, wide, 1, 1, s->dilation};
    int failed = 0;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *weights = scratch(chunks_of(s) * taps + wide * high + to);
        if (!weights) { failed = 1; continue; }
        vec *padded = weights + chunks_of(s) * taps, *result = padded + wide * high;
        memset(padded, 0, wide * high * sizeof *padded);
        load_depthwise(s, w, 0, back, weights);
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks_of(s); k++) {
                load_chunk(s, in + n * from * s->channels, k, back ? rows_out(s) : s->height,
                           back ? columns_out(s) : s->width, wide, back ? s->stride : 1, padded + p * wide + p);
                depthwise(s->kernel, of, padded, weights + k * taps, result, 0);
                store_chunk(s, result, k, to, out + n * to * s->channels);
            }
    }
    return failed;
}

int convolve(const Shape *s, const REAL *x, const REAL *w, REAL *out) { return spread(s, x, w, 0, out); }
int transpose(const Shape *s, const REAL *g, const REAL *w, REAL *out) { return spread(s, g, w, 1, out); }

int correlation(const Shape *s, const REAL *x, const REAL *g, REAL *out) {
    int64_t chunks = chunks_of(s), taps = s->kernel * s->kernel, p = padding_of(s), pixels = pixels_out(s);
    int64_t wide = s->width + 2 * p, high = s->height + 2 * p, area = s->height * s->width;
    Plane of = {rows_out(s), columns_out(s), wide, 1, s->stride, s->dilation};
    int failed = 0;
    vec *parts = calloc(s->threads * chunks * taps, sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *padded = scratch(2 * wide * high);
        if (!padded) { failed = 1; continue; }
        vec *spread = padded + wide * high;
        memset(padded, 0, wide * high * sizeof *padded);
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks; k++) {
                load_chunk(s, x + n * area * s->channels, k, s->height, s->width, wide, 1, padded + p * wide + p);
                load_chunk(s, g + n * pixels * s->channels, k, rows_out(s), columns_out(s), wide, s->stride, spread);
                correlate(s->kernel, of, padded, spread, parts + (t * chunks + k) * taps);
            }
    }
    for (int64_t channel = 0; channel < s->channels; channel++)
        for (int64_t i = 0; i < taps; i++) {
            REAL sum = 0;
            for (int64_t t = 0; t < s->threads; t++) sum += parts[(t * chunks + channel / V) * taps + i][channel % V];
            out[channel * taps + i] = sum;
        }
    free(parts);
    return failed;
}
