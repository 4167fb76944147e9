/* 3x3 convolutions by 2x2 tiles of their result (Winograd 1980; Lavin and Gray 2016), and their gradients:

     y = A' [(G w G') * (B' x B)] A     for each tile: w 3x3, x 4x4, y 2x2; * element by element, summed over channels

   so that 16 products replace 36. The gradients use the transposed maps of the same three transforms. The 16 places of
   a tile are 16 matrix products: rows are tiles, columns are channels. All factors are 1 or 1/2, so the rounding error
   is like that of the plain sum. */

#pragma once

#include "product.h"

enum { PLACES = 16, TILES = 64, APART = TILES + 1 }; /* tiles at a time; the odd distance avoids cache conflicts */

/* --- transforms: each applies a map of a line to the columns, then to the rows of a tile ---------------------------- */

typedef void Map(const vec *x, vec *y);

INLINE void of_input(const vec *x, vec *y) {
    y[0] = x[0] - x[2], y[1] = x[1] + x[2], y[2] = x[2] - x[1], y[3] = x[1] - x[3];
}
INLINE void to_input(const vec *x, vec *y) {
    y[0] = x[0], y[1] = x[1] - x[2] + x[3], y[2] = x[1] + x[2] - x[0], y[3] = -x[3];
}
INLINE void to_result(const vec *x, vec *y) { y[0] = x[0] + x[1] + x[2], y[1] = x[1] - x[2] - x[3]; }
INLINE void of_slope(const vec *x, vec *y) { y[0] = x[0], y[1] = x[0] + x[1], y[2] = x[0] - x[1], y[3] = -x[1]; }
INLINE void of_weights(const vec *x, vec *y) {
    y[0] = x[0], y[1] = (x[0] + x[1] + x[2]) / 2, y[2] = (x[0] - x[1] + x[2]) / 2, y[3] = x[2];
}
INLINE void to_weights(const vec *x, vec *y) {
    y[0] = x[0] + (x[1] + x[2]) / 2, y[1] = (x[1] - x[2]) / 2, y[2] = x[3] + (x[1] + x[2]) / 2;
}

/* A map from n to m values; rows are `wide` apart, columns `step`; `add` to the tile at `to`. */
INLINE void transformed(Map map, const int n, const int m, const vec *from, int64_t wide, int64_t step, vec *to,
                        int64_t to_wide, int64_t to_step, const int add) {
    vec half[4][4], line[4], found[4];
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
