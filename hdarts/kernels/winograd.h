/* 3x3 convolutions by 4x4 tiles of their result (Winograd 1980; Lavin and Gray 2016), and their gradients:

     y = A' [(G w G') * (B' x B)] A     for each tile: w 3x3, x 6x6, y 4x4; * element by element, summed over channels

   so that 36 products replace 144. The gradients use the transposed maps of the same three transforms. The 36 places of
   a tile are 36 matrix products: rows are tiles, columns are channels. */

#pragma once

#include "product.h"

enum { TILE = 4, SIDE = TILE + 2, PLACES = SIDE * SIDE };
enum { TILES = 64, APART = TILES + 1 }; /* tiles at a time; the odd distance avoids cache conflicts */

/* --- transforms: each applies a map of a line to the columns, then to the rows of a tile ---------------------------- */

typedef void Map(const vec *x, vec *y);

INLINE void of_input(const vec *x, vec *y) { /* B' x */
    vec even = x[4] - 4 * x[2], odd = x[3] - 4 * x[1], far = x[4] - x[2], wide = 2 * (x[3] - x[1]);
    y[0] = 4 * x[0] - 5 * x[2] + x[4], y[5] = 4 * x[1] - 5 * x[3] + x[5];
    y[1] = even + odd, y[2] = even - odd, y[3] = far + wide, y[4] = far - wide;
}
INLINE void to_input(const vec *x, vec *y) {
    vec even = x[1] + x[2], odd = x[1] - x[2], far = x[3] + x[4], wide = 2 * (x[3] - x[4]);
    y[0] = 4 * x[0], y[1] = 4 * (x[5] - odd) - wide, y[2] = -5 * x[0] - 4 * even - far;
    y[3] = odd + wide - 5 * x[5], y[4] = x[0] + even + far, y[5] = x[5];
}
INLINE void to_result(const vec *x, vec *y) { /* A' x */
    vec even = x[1] + x[2], odd = x[1] - x[2], far = x[3] + x[4], wide = x[3] - x[4];
    y[0] = x[0] + even + far, y[1] = odd + 2 * wide, y[2] = even + 4 * far, y[3] = odd + 8 * wide + x[5];
}
INLINE void of_slope(const vec *x, vec *y) {
    vec even = x[0] + x[2], odd = x[1] + x[3], far = x[0] + 4 * x[2], wide = 2 * x[1] + 8 * x[3];
    y[0] = x[0], y[1] = even + odd, y[2] = even - odd, y[3] = far + wide, y[4] = far - wide, y[5] = x[3];
}
INLINE void of_weights(const vec *x, vec *y) { /* G x */
    vec even = (x[0] + x[2]) / -6, odd = x[1] / 6, far = (x[0] / 4 + x[2]) / 6, wide = x[1] / 12;
    y[0] = x[0] / 4, y[1] = even - odd, y[2] = even + odd, y[3] = far + wide, y[4] = far - wide, y[5] = x[2];
}
INLINE void to_weights(const vec *x, vec *y) {
    vec even = (x[1] + x[2]) / 6, odd = (x[1] - x[2]) / 6, far = (x[3] + x[4]) / 6, wide = (x[3] - x[4]) / 12;
    y[0] = (x[0] + far) / 4 - even, y[1] = wide - odd, y[2] = far - even + x[5];
}

/* A map from n to m values; rows are `wide` apart, columns `step`; `add` to the tile at `to`. */
INLINE void transformed(Map map, const int n, const int m, const vec *from, int64_t wide, int64_t step, vec *to,
                        int64_t to_wide, int64_t to_step, const int add) {
    vec half[SIDE][SIDE], line[SIDE], found[SIDE];
    FOR(j, n) {
        FOR(i, n) line[i] = from[i * wide + j * step];
        map(line, found);
        FOR(i, m) half[i][j] = found[i];
    }
    FOR(i, m) {
        map(half[i], found);
        FOR(j, m) {
            if (add) to[i * to_wide + j * to_step] += found[j];
            else to[i * to_wide + j * to_step] = found[j];
        }
    }
}
