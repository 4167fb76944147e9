/* What separable.c knows of a wave of edges: its blocks, weights in the order of use, and memory. */

#pragma once

#include "depthwise.h"
#include "moments.h"
#include "product.h"

enum { BAND = 8192 / sizeof(vec), FEW = 256 }; /* vectors of a band; pixels of images that share loaded weights */

/* A block of an operation on all edges; gamma and beta may be NULL, for 1 and 0. */
typedef struct {
    Shape s;             /* of its input */
    int64_t depth, last; /* place in its operation: 0 reads a source; the last one is added to a node */
    int64_t slot;        /* of the gradients between the blocks of its operation */
    const REAL *depthwise, *pointwise, *gamma, *beta;
    const int64_t *place; /* of y of each edge among those of its source; -1: the edge lacks the operation */
    vec *const *y, *mean, *rstd; /* y of the edges of each source */
} Block;

typedef struct { int64_t kernel, stride, dilation, first; } Form; /* first of its operation */

/* Memory of a thread: some images of a source after relu, padded, and sums of gradients in them; an input of a block
   that is not the first, padded; gradients in the results of depthwise convolutions in the layout of their input, of
   first blocks and of others; and the pixels of a band. */
typedef struct { vec *source, *source_g, *padded, *back[2], *slope, *spread; } Room;

typedef struct {
    const Shape *s; /* of the sources; its stride is that of the wave */
    Block *blocks;
    int64_t count, depths, slots;
    int64_t margin, together; /* zeros around an image; images at a time */
    vec *weights;             /* (edge, block): depthwise, the same reversed, pointwise */
    int64_t of_weights;
    Room *rooms;
} Wave;

static int64_t wide_of(const Wave *w, const Block *b) { return b->s.width + 2 * w->margin; }
static int64_t area_of(const Wave *w, const Block *b) {
    return wide_of(w, b) * (b->s.height + 2 * w->margin) * chunks_of(w->s);
}

/* Offset of a pixel of an image in its padded layout. */
static int64_t at_pixel(const Wave *w, const Block *b, int64_t row, int64_t column) {
    return ((row + w->margin) * wide_of(w, b) + column + w->margin) * chunks_of(w->s);
}

static const vec *weights_at(const Wave *w, int64_t e, const Block *b) {
    return w->weights + (e * w->count + (b - w->blocks)) * w->of_weights;
}

static void set_blocks(Wave *w, const Form *forms, const int64_t *places, const REAL *const *weights, vec *const *y,
                       vec *statistics) {
    int64_t of_edges = edges_of(w->s) * chunks_of(w->s);
    for (int64_t b = 0, depth = 0; b < w->count; b++) {
        const REAL *const *of = weights + 4 * b;
        vec *mean = statistics + 2 * b * of_edges;
        depth = forms[b].first ? 0 : depth + 1;
        w->depths = depth + 1 > w->depths ? depth + 1 : w->depths;
        w->slots += depth == 1;
        w->blocks[b] = (Block){*w->s, depth, b + 1 == w->count || forms[b + 1].first, w->slots - (depth > 0),
                               of[0], of[1], of[2], of[3], places + b * edges_of(w->s), y + b * w->s->sources, mean,
                               mean + of_edges};
        Shape *s = &w->blocks[b].s;
        if (depth) s->height = rows_out(w->s), s->width = columns_out(w->s);
        s->kernel = forms[b].kernel, s->stride = forms[b].stride, s->dilation = forms[b].dilation;
        if (padding_of(s) > w->margin) w->margin = padding_of(s);
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

static void load_weights(const Wave *w, int back) {
    const Shape *s = w->s;
    int64_t all = edges_of(s) * w->count;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (int64_t i = all * t / s->threads; i < all * (t + 1) / s->threads; i++) {
            const Block *b = w->blocks + i % w->count;
            if (b->place[i / w->count] < 0) continue;
            vec *to = w->weights + i * w->of_weights;
            load_depthwise(&b->s, b->depthwise, i / w->count, 0, to);
            load_depthwise(&b->s, b->depthwise, i / w->count, 1, to + 25 * chunks_of(s));
            load_pointwise(s, b->pointwise, i / w->count, back, to + 50 * chunks_of(s));
        }
}

/* Reserve all memory, in one piece that starts with the weights; 0 if there is none. */
static int prepare(Wave *w, int back) {
    const Shape *s = w->s;
    int64_t chunks = chunks_of(s), pixels = s->height * s->width, band = (s->width + ROWS) * chunks + BAND;
    int64_t area = area_of(w, w->blocks), direct = back ? pixels * chunks : 0;
    w->together = pixels < FEW ? FEW / pixels : 1;
    w->of_weights = (50 + s->channels) * chunks;
    int64_t ready = edges_of(s) * w->count * w->of_weights;
    int64_t of_thread = w->together * (area + direct) + (back ? 3 : 1) * area + 2 * band;
    w->weights = vectors(ready + s->threads * of_thread);
    w->rooms = malloc(s->threads * sizeof *w->rooms);
    if (!w->weights || !w->rooms) return 0;
    for (int64_t t = 0; t < s->threads; t++) {
        vec *source = w->weights + ready + t * of_thread, *source_g = source + w->together * area;
        vec *slope = source_g + w->together * direct, *spread = slope + band, *padded = spread + band;
        memset(source, 0, of_thread * sizeof *source);
        w->rooms[t] = (Room){source, source_g, padded, {padded + area, padded + 2 * area}, slope, spread};
    }
    load_weights(w, back);
    return 1;
}

/* --- inputs of blocks --------------------------------------------------------------------------------------------- */

static vec *y_of(const Block *b, int64_t e, int64_t n) {
    const Shape *s = &b->s;
    return b->y[e / s->nodes] + (b->place[e] * s->images + n) * pixels_out(s) * chunks_of(s);
}

/* One chunk of gamma or beta, or `other` where they are NULL. */
static vec lanes_at(const Block *b, const REAL *of, int64_t e, int64_t k, REAL other) {
    if (of) return gather(of + e * b->s.channels + k * V, lanes_of(&b->s, k));
    return (vec){0} + other;
}

/* BatchNorm of one chunk of y is scale y + shift. */
static vec scale_of(const Block *b, int64_t e, int64_t k) {
    return b->rstd[e * chunks_of(&b->s) + k] * lanes_at(b, b->gamma, e, k, 1);
}

static vec shift_of(const Block *b, int64_t e, int64_t k) {
    return lanes_at(b, b->beta, e, k, 0) - b->mean[e * chunks_of(&b->s) + k] * scale_of(b, e, k);
}

INLINE void relu_of(int64_t lanes, const REAL *from, int64_t step, int64_t pixels, vec *to, int64_t unit) {
    for (int64_t p = 0; p < pixels; p++) to[p * unit] = relu(gather(from + p * step, lanes));
}

INLINE void through_relu(int64_t lanes, const vec *g, const vec *seen, int64_t unit, int64_t pixels, REAL *to,
                         int64_t step) {
    for (int64_t p = 0; p < pixels; p++) put((vec)((mask)g[p * unit] & (seen[p * unit] > 0)), to + p * step, lanes);
}

/* Load some images of a source, through relu, or store the gradients in them. */
static void move_source(const Wave *w, const Room *room, int64_t n, int64_t images, const REAL *x, REAL *x_g) {
    const Shape *s = w->s;
    int64_t chunks = chunks_of(s);
    for (int64_t i = 0; i < images * s->height; i++)
        for (int64_t k = 0, lanes; lanes = lanes_of(s, k), k < chunks; k++) {
            int64_t at = (n * s->height + i) * s->width * s->channels + k * V;
            vec *padded = room->source + i / s->height * area_of(w, w->blocks);
            vec *row = padded + at_pixel(w, w->blocks, i % s->height, 0) + k;
            const vec *slope = room->source_g + i * s->width * chunks + k;
            if (x) ANY(relu_of, x + at, s->channels, s->width, row, chunks);
            else ANY(through_relu, slope, row, chunks, s->width, x_g + at, s->channels);
        }
}

/* Load some rows of the result of the block before, through BatchNorm and relu. */
static void load_rows(const Wave *w, const Block *b, int64_t e, int64_t n, int64_t from, int64_t to, vec *padded) {
    int64_t wide = b->s.width, chunks = chunks_of(w->s);
    for (int64_t k = 0; k < chunks; k++) {
        vec scale = scale_of(b - 1, e, k), shift = shift_of(b - 1, e, k);
        for (int64_t r = from; r < to; r++) {
            const vec *y = y_of(b - 1, e, n) + r * wide * chunks + k;
            vec *row = padded + at_pixel(w, b, r, 0) + k;
            for (int64_t c = 0; c < wide; c++) row[c * chunks] = relu(y[c * chunks] * scale + shift);
        }
    }
}
