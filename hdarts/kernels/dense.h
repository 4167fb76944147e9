/* 1x1 and 3x3 convolutions of edges that leave one node, and their gradients, for images that fit the cache.

   y (image, row, column, vector): a vector is a chunk of the channels of a node, with index i * chunks + chunk for the
   i-th node that has the convolution.
   Weights are rearranged once per call: (place, channel in, vector) for the forward pass, (place, vector, lane, chunk
   of channels in) for the backward pass. */

#pragma once

#include "moments.h"
#include "winograd.h"

/* Sizes of zero-padded images that tiles cover, and the nodes that have a convolution. */
typedef struct {
    int64_t high, wide, tiles, rows, columns, size, together, vectors;
    const int64_t *nodes;
} Grid;

static Grid grid_of(const Shape *s, int64_t count, const int64_t *nodes) {
    int64_t high = (s->height + TILE - 1) / TILE, wide = (s->width + TILE - 1) / TILE, tiles = high * wide;
    int64_t rows = TILE * high + 2, columns = TILE * wide + 2;
    int64_t together = tiles < TILES ? TILES / tiles : 1; /* images */
    return (Grid){high, wide, tiles, rows, columns, rows * columns * chunks_of(s), together, count * chunks_of(s),
                  nodes};
}

static int64_t padded_of(const Shape *s, Grid grid) { return grid.together * grid.size + ROWS * chunks_of(s); }
static int64_t weights_of(const Shape *s, int64_t places) { return places * s->channels * s->nodes * chunks_of(s); }
static int64_t back_weights_of(const Shape *s) { return s->nodes * chunks_of(s) * V * chunks_of(s); } /* per place */

/* Output channel of lane l of vector v in the weights, or -1 for padding. */
static int64_t out_at(const Shape *s, Grid grid, int64_t v, int64_t l) {
    int64_t chunks = chunks_of(s), channel = v % chunks * V + l;
    return channel < s->channels ? grid.nodes[v / chunks] * s->channels + channel : -1;
}

INLINE vec *pixel_at(const Shape *s, Grid grid, vec *padded, int64_t image, int64_t row, int64_t column) {
    return padded + image * grid.size + (row * grid.columns + column) * chunks_of(s);
}

static void load_relu(const Shape *s, Grid grid, const REAL *x, int64_t image, vec *padded) {
    int64_t chunks = chunks_of(s);
    for (int64_t r = 0; r < s->height; r++)
        for (int64_t c = 0; c < s->width; c++, x += s->channels) {
            vec *to = pixel_at(s, grid, padded, image, r + 1, c + 1);
            for (int64_t k = 0; k < chunks; k++) to[k] = relu(gather(x + k * V, lanes_of(s, k)));
        }
}

/* Place of a weight, without its taps, or -1 for padding: row c, column v of (channel, vector), or, if `back`, row o,
   column k of (vector and lane, chunk of channels in). */
static int64_t at_weight(const Shape *s, Grid grid, int back, int64_t row, int64_t column, int64_t lane) {
    int64_t out = back ? out_at(s, grid, row / V, row % V) : out_at(s, grid, column, lane);
    int64_t in = back ? column * V + lane : row;
    return out < 0 || in >= s->channels ? -1 : out * s->channels + in;
}

/* Weights (out, in, size, size), size 1 or 3, -> (place, row, column) of `at_weight`. */
static void arrange(const Shape *s, Grid grid, const REAL *w, int64_t size, int back, vec *to) {
    int64_t rows = back ? grid.vectors * V : s->channels, columns = back ? chunks_of(s) : grid.vectors;
    int64_t taps = size * size, all = rows * columns;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (int64_t i = all * t / s->threads; i < all * (t + 1) / s->threads; i++) {
            vec of[9] = {{0}};
            for (int64_t l = 0, at; l < V; l++)
                for (int64_t j = 0; j < taps && (at = at_weight(s, grid, back, i / columns, i % columns, l)) >= 0; j++)
                    of[j][l] = w[at * taps + j];
            if (size == 1) to[i] = of[0];
            else transformed(of_weights, 3, SIDE, of, 3, 1, to + i, SIDE * all, all, 0);
        }
}

/* Gradients (thread, place, channel, vector) -> gradients in the weights (out, in, size, size). */
static void collect(const Shape *s, Grid grid, const vec *parts, int64_t apart, int64_t size, REAL *w) {
    int64_t vectors = grid.vectors, taps = size * size, places = size == 1 ? 1 : PLACES;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (int64_t c = s->channels * t / s->threads; c < s->channels * (t + 1) / s->threads; c++)
            for (int64_t v = 0; v < vectors; v++) {
                vec sums[PLACES], of[9];
                for (int64_t p = 0; p < places; p++) {
                    sums[p] = parts[(p * s->channels + c) * vectors + v];
                    for (int64_t i = 1; i < s->threads; i++)
                        sums[p] += parts[i * apart + (p * s->channels + c) * vectors + v];
                }
                if (size == 1) of[0] = sums[0];
                else transformed(to_weights, SIDE, 3, sums, SIDE, 1, of, 3, 1, 0);
                for (int64_t l = 0, at; l < V; l++)
                    for (int64_t i = 0; i < taps && (at = at_weight(s, grid, 0, c, v, l)) >= 0; i++)
                        w[at * taps + i] = of[i][l];
            }
}

/* Transform `count` tiles of the images in `padded` to places (place, tile, chunk), or, if `back`, add the transpose. */
INLINE void transform(const Shape *s, Grid grid, const int back, vec *padded, int64_t first, int64_t count, vec *places) {
    int64_t chunks = chunks_of(s), wide = grid.columns * chunks, apart = APART * chunks;
    for (int64_t t = 0; t < count; t++) {
        int64_t i = first + t, row = i % grid.tiles / grid.wide, column = i % grid.wide;
        vec *corner = pixel_at(s, grid, padded, i / grid.tiles, TILE * row, TILE * column);
        for (int64_t k = 0; k < chunks; k++, corner++, places++) {
            if (back) transformed(to_input, SIDE, SIDE, places, SIDE * apart, apart, corner, wide, chunks, 1);
            else transformed(of_input, SIDE, SIDE, corner, wide, chunks, places, SIDE * apart, apart, 0);
        }
    }
}

/* 3x3 convolutions of `images` images in `padded`; `room`: scratch memory for PLACES * APART * (chunks + GROUP)
   vectors. */
static void convolve_3x3(const Shape *s, Grid grid, int64_t images, vec *padded, const vec *w, vec *y, vec *room) {
    int64_t chunks = chunks_of(s), c = s->channels, all = grid.vectors, most = group_of(all);
    vec *results = room + PLACES * APART * chunks;
    for (int64_t first = 0, count; first < images * grid.tiles; first += count) {
        count = images * grid.tiles - first < TILES ? images * grid.tiles - first : TILES;
        transform(s, grid, 0, padded, first, count, room);
        for (int64_t v = 0, n; v < all; v += n) {
            n = all - v < most ? all - v : most;
            for (int64_t p = 0; p < PLACES; p++)
                product((const REAL *)(room + p * APART * chunks), chunks * V, 1, w + p * c * all + v, all, c,
                        results + p * APART * n, n, count, n, 0);
            for (int64_t t = 0; t < count; t++) {
                int64_t i = first + t, row = TILE * (i % grid.tiles / grid.wide), column = TILE * (i % grid.wide);
                vec *to = y + ((i / grid.tiles * s->height + row) * s->width + column) * all + v, of[TILE][TILE];
                for (int64_t j = 0; j < n; j++) {
                    transformed(to_result, SIDE, TILE, results + t * n + j, SIDE * APART * n, APART * n, of[0], TILE,
                                1, 0);
                    FOR(a, TILE) FOR(b, TILE)
                        if (row + a < s->height && column + b < s->width) to[(a * s->width + b) * all + j] = of[a][b];
                }
            }
        }
    }
}

static void convolve_1x1(const Shape *s, Grid grid, int64_t images, vec *padded, const vec *w, vec *y) {
    int64_t all = grid.vectors;
    for (int64_t row = 0; row < images * s->height; row++) {
        vec *from = pixel_at(s, grid, padded, row / s->height, row % s->height + 1, 1);
        product((const REAL *)from, chunks_of(s) * V, 1, w, all, s->channels, y + row * s->width * all, all, s->width,
                all, 0);
    }
}

/* --- backward ---------------------------------------------------------------------------------------------------- */

/* Gradients in some images: one norm per vector, the gradients in the nodes, y. */
typedef struct { const Norm *norms; const REAL *const *g; const vec *y; int64_t pixel; } Slopes;

static const REAL *slope_at(const Shape *s, Grid grid, Slopes of, int64_t v) {
    return of.g[grid.nodes[v / chunks_of(s)]] + of.pixel * s->channels + v % chunks_of(s) * V;
}

INLINE void slopes_of_tiles(int64_t lanes, const Shape *s, Grid grid, Slopes of, int64_t v, int64_t first,
                            int64_t count, vec *to, int64_t step) {
    const REAL *g = slope_at(s, grid, of, v);
    const vec *y = of.y + v;
    Norm norm = of.norms[v];
    for (int64_t t = 0; t < count; t++) {
        int64_t i = first + t, row = TILE * (i % grid.tiles / grid.wide), column = TILE * (i % grid.wide);
        int64_t pixel = (i / grid.tiles * s->height + row) * s->width + column;
        vec tile[TILE][TILE] = {{{0}}};
        FOR(a, TILE) FOR(b, TILE)
            if (row + a < s->height && column + b < s->width) {
                int64_t at = pixel + a * s->width + b;
                tile[a][b] = slope_of(lanes, norm, g + at * s->channels, y[at * grid.vectors]);
            }
        transformed(of_slope, TILE, SIDE, tile[0], TILE, 1, to + t * step, SIDE * APART * step, APART * step, 0);
    }
}

/* Add to `back`, padded images, and to the sums of the weight gradients (place, channel, vector) unless they are NULL.
   `room`: scratch memory for PLACES * APART * (2 chunks + GROUP) vectors. */
static void back_3x3(const Shape *s, Grid grid, int64_t images, vec *padded, const vec *w, Slopes of, vec *back,
                     vec *sums, vec *room) {
    int64_t chunks = chunks_of(s), c = s->channels, all = grid.vectors, most = group_of(all);
    vec *back_places = room + PLACES * APART * chunks, *slopes = back_places + PLACES * APART * chunks;
    for (int64_t first = 0, count; first < images * grid.tiles; first += count) {
        count = images * grid.tiles - first < TILES ? images * grid.tiles - first : TILES;
        if (sums) transform(s, grid, 0, padded, first, count, room);
        for (int64_t v = 0, n; v < all; v += n) {
            n = all - v < most ? all - v : most;
            for (int64_t j = 0, lanes; lanes = lanes_of(s, (v + j) % chunks), j < n; j++)
                ANY(slopes_of_tiles, s, grid, of, v + j, first, count, slopes + j, n);
            for (int64_t p = 0; p < PLACES; p++) {
                const vec *here = slopes + p * APART * n;
                product((const REAL *)here, n * V, 1, w + (p * all + v) * V * chunks, chunks, n * V,
                        back_places + p * APART * chunks, chunks, count, chunks, v > 0);
                if (sums)
                    product((const REAL *)(room + p * APART * chunks), 1, chunks * V, here, n, count,
                            sums + p * c * all + v, all, c, n, 1);
            }
        }
        transform(s, grid, 1, back, first, count, back_places);
    }
}

INLINE void slopes_of_row(int64_t lanes, const Shape *s, Grid grid, Slopes of, int64_t v, int64_t row, vec *to) {
    const REAL *g = slope_at(s, grid, of, v) + row * s->width * s->channels;
    const vec *y = of.y + row * s->width * grid.vectors + v;
    Norm norm = of.norms[v];
    for (int64_t p = 0; p < s->width; p++)
        to[p * grid.vectors + v] = slope_of(lanes, norm, g + p * s->channels, y[p * grid.vectors]);
}

/* The same for 1x1 convolutions; `room`: scratch memory for width + ROWS times all vectors. */
static void back_1x1(const Shape *s, Grid grid, int64_t images, vec *padded, const vec *w, Slopes of, vec *back,
                     vec *sums, vec *room) {
    int64_t chunks = chunks_of(s), all = grid.vectors;
    for (int64_t row = 0; row < images * s->height; row++) {
        for (int64_t v = 0, lanes; lanes = lanes_of(s, v % chunks), v < all; v++)
            ANY(slopes_of_row, s, grid, of, v, row, room);
        int64_t image = row / s->height, r = row % s->height + 1;
        product((const REAL *)room, all * V, 1, w, chunks, all * V, pixel_at(s, grid, back, image, r, 1), chunks,
                s->width, chunks, 1);
        if (sums)
            product((const REAL *)pixel_at(s, grid, padded, image, r, 1), 1, chunks * V, room, all, s->width, sums, all,
                    s->channels, all, 1);
    }
}
