/* Separable convolutions of all edges of a wave: relu, depthwise, pointwise and BatchNorm, mixed for the target nodes.

   A stage is one pass over the images: all first blocks of all operations, then all second blocks, and so on;
   statistics are complete after it. Edges and operations are the inner loops, so that the image of a source and the
   gradient of a node are read once and remain in the cache; the steps on a band of rows remain in the first cache.
   Only y, the result of a pointwise convolution, and gradients between blocks are in main memory. BatchNorm, relu and
   the weight of the operation are applied where y is read. Called by separable.py, which has the equation. Functions
   called from there return 0, or 1 if out of memory.

   Layouts, slowest axis first; channels are in chunks of V lanes, the last one padded with zeros:
     sources, nodes and their gradients  (image, row, column, channel), each one a tensor: PyTorch's channels-last
     y of each block and source          (place, image, row, column, chunk, lane): of the edges that have the operation
     statistics                          (block, mean or 1 / sqrt(variance + EPSILON), edge, chunk, lane)
     weights of each block               depthwise, pointwise, gamma, beta, as in PyTorch, edges first */

#include "wave.h"

/* --- forward ------------------------------------------------------------------------------------------------------ */

#define BANDS_OF(all, columns) \
    int64_t band = BAND / ((columns) * chunks_of(s)) + 1, r = 0, rows; \
    rows = (all) - r < band ? (all) - r : band, r < (all); r += rows
#define BLOCKS_OF(w) const Block *b = (w)->blocks; b < (w)->blocks + (w)->count; b++
#define BLOCKS_ON(w, e) BLOCKS_OF(w)) if (b->place[e] >= 0 /* of the operations that the edge has */

/* Sizes of the depthwise convolution of some rows, and its first pixel in a padded image. */
static Plane plane_of(const Wave *w, const Block *b, int64_t rows) {
    return (Plane){rows, columns_out(&b->s), wide_of(w, b), chunks_of(w->s), b->s.stride, b->s.dilation};
}

static int64_t at_window(const Wave *w, const Block *b, int64_t r) {
    int64_t p = padding_of(&b->s);
    return at_pixel(w, b, r * b->s.stride - p, -p);
}

/* The depthwise convolution of `rows` rows of results from row r on. */
static void spread_rows(const Wave *w, const Block *b, int64_t e, const vec *padded, int64_t r, int64_t rows, vec *to) {
    for (int64_t k = 0, taps = b->s.kernel * b->s.kernel; k < chunks_of(w->s); k++)
        depthwise(b->s.kernel, plane_of(w, b, rows), padded + at_window(w, b, r) + k, weights_at(w, e, b) + k * taps,
                  to + k, 0);
}

/* y of one image and one edge, and its moments. */
static void convolve(const Wave *w, const Block *b, const Room *room, vec *padded, int64_t e, int64_t n,
                     Moments *moments) {
    const Shape *s = &b->s;
    int64_t chunks = chunks_of(s), columns = columns_out(s), loaded = 0;
    const vec *pointwise = weights_at(w, e, b) + 50 * chunks;
    Tile tiles[chunks];
    memset(tiles, 0, sizeof tiles);
    for (BANDS_OF(rows_out(s), columns)) {
        int64_t needed = r + rows + padding_of(s); /* rows of the block before, which has as many */
        if (needed > s->height) needed = s->height;
        if (b->depth) load_rows(w, b, e, n, loaded, needed, padded);
        loaded = needed;
        spread_rows(w, b, e, padded, r, rows, room->spread);
        vec *y = y_of(b, e, n) + r * columns * chunks;
        product((const REAL *)room->spread, chunks * V, 1, pointwise, chunks, s->channels, y, chunks, rows * columns,
                chunks, 0);
        for (int64_t k = 0; k < chunks; k++) add_tile(tiles + k, y + k, chunks, rows * columns);
    }
    for (int64_t k = 0; k < chunks; k++) merge_tile(moments + k, tiles[k]);
}

INLINE void add_scaled(int64_t lanes, const vec *y, int64_t unit, int64_t pixels, vec scale, vec shift, int start,
                       REAL *node, int64_t step) {
    for (int64_t p = 0; p < pixels; p++) {
        vec one = scale * y[p * unit] + shift;
        if (!start) one += gather(node + p * step, lanes);
        put(one, node + p * step, lanes);
    }
}

/* nodes[node] = sum over operations and sources of BatchNorm of the last block */
static void mix(const Wave *w, REAL *const *nodes) {
    const Shape *s = w->s;
    int64_t c = s->channels, columns = columns_out(s), chunks = chunks_of(s);
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (IMAGES_OF(t))
            for (BANDS_OF(rows_out(s), columns))
                for (int64_t node = 0; node < s->nodes; node++) {
                    REAL *to = nodes[node] + (n * pixels_out(s) + r * columns) * c;
                    int start = 1;
                    for (int64_t e = node; e < edges_of(s); e += s->nodes)
                        for (BLOCKS_ON(w, e)) {
                            if (!b->last) continue;
                            for (int64_t k = 0, lanes; lanes = lanes_of(s, k), k < chunks; k++)
                                ANY(add_scaled, y_of(b, e, n) + r * columns * chunks + k, chunks, rows * columns,
                                    scale_of(b, e, k), shift_of(b, e, k), start, to + k * V, c);
                            start = 0;
                        }
                    if (start) memset(to, 0, rows * columns * c * sizeof *to);
                }
}

/* --- backward ----------------------------------------------------------------------------------------------------- */

/* Sums of each thread (thread, block, edge): for BatchNorm, of g and g (y - mean), (2, chunk, lane); and gradients in
   the weights, depthwise (chunk, tap) and pointwise (out, chunk of ins), NULL if they are constants. The gradients
   between blocks (slot, edge, image, pixel, chunk, lane). */
typedef struct {
    double *sums;
    Norm *norms; /* (block, edge, chunk) */
    vec *weights, *inner;
    int64_t of_sums, of_weights;
} Gradients;

static double *sums_at(const Wave *w, const Gradients *of, int64_t t, const Block *b, int64_t e) {
    return of->sums + ((t * w->count + (b - w->blocks)) * edges_of(w->s) + e) * of->of_sums;
}

static Norm *norms_at(const Wave *w, const Gradients *of, const Block *b, int64_t e) {
    return of->norms + ((b - w->blocks) * edges_of(w->s) + e) * chunks_of(w->s);
}

static vec *weights_g_at(const Wave *w, const Gradients *of, int64_t t, const Block *b, int64_t e) {
    return of->weights + ((t * w->count + (b - w->blocks)) * edges_of(w->s) + e) * of->of_weights;
}

static vec *inner_of(const Wave *w, const Gradients *of, const Block *b, int64_t e, int64_t n) {
    return of->inner + ((b->slot * edges_of(w->s) + e) * w->s->images + n) * pixels_out(w->s) * chunks_of(w->s);
}

/* Sums for the last BatchNorm of each operation, for the gradients g in the nodes. */
static void gradient_sums(const Wave *w, const REAL *const *g, const Gradients *of) {
    const Shape *s = w->s;
    int64_t chunks = chunks_of(s), pixels = pixels_out(s);
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (IMAGES_OF(t))
            for (int64_t e = 0; e < edges_of(s); e++)
                for (BLOCKS_ON(w, e))
                    for (int64_t k = 0, lanes; lanes = lanes_of(s, k), b->last && k < chunks; k++)
                        ANY(add_gradients, g[e % s->nodes] + n * pixels * s->channels + k * V, s->channels,
                            y_of(b, e, n) + k, chunks, b->mean[e * chunks + k], pixels,
                            sums_at(w, of, t, b, e) + k * V, chunks * V);
}

INLINE void slopes_of(int64_t lanes, Norm norm, const REAL *g, int64_t step, const vec *y, int64_t unit, int64_t pixels,
                      vec *to) {
    for (int64_t p = 0; p < pixels; p++) to[p * unit] = slope_of(lanes, norm, g + p * step, y[p * unit]);
}

/* Gradient in y, for some pixels from p on, for the gradient in a node, or in the next block's input. */
static void slopes(const Wave *w, const Block *b, int64_t e, int64_t n, const REAL *node, const Gradients *of,
                   int64_t p, int64_t pixels, vec *to) {
    int64_t chunks = chunks_of(w->s), c = w->s->channels, step = b->last ? c : chunks * V;
    const REAL *g = b->last ? node + n * pixels_out(w->s) * c : (const REAL *)inner_of(w, of, b, e, n);
    const Norm *norms = norms_at(w, of, b, e);
    for (int64_t k = 0; k < chunks; k++) {
        int64_t lanes = b->last ? lanes_of(w->s, k) : V;
        ANY(slopes_of, norms[k], g + p * step + k * V, step, y_of(b, e, n) + p * chunks + k, chunks, pixels, to + k);
    }
}

/* Write the gradient in the result of the depthwise convolution, `rows` rows from r on, into the inside of `back`; at
   stride 2, the zeros between its pixels remain. */
static void through_pointwise(const Wave *w, const Block *b, int64_t e, const vec *slope, int64_t r, int64_t rows,
                              vec *back) {
    int64_t chunks = chunks_of(w->s), columns = columns_out(&b->s);
    const vec *pointwise = weights_at(w, e, b) + 50 * chunks;
    for (int64_t i = 0; i < rows; i++)
        product((const REAL *)(slope + i * columns * chunks), chunks * V, 1, pointwise, chunks, w->s->channels,
                back + at_pixel(w, b, (r + i) * b->s.stride, 0), b->s.stride * chunks, columns, chunks, 0);
}

/* Add the gradients in the weights of a band. */
static void learn(const Wave *w, const Block *b, int64_t e, const Room *room, const vec *padded, const vec *back,
                  int64_t r, int64_t rows, vec *sums) {
    int64_t chunks = chunks_of(w->s), taps = b->s.kernel * b->s.kernel;
    spread_rows(w, b, e, padded, r, rows, room->spread);
    for (int64_t k = 0; k < chunks; k++)
        correlate(b->s.kernel, plane_of(w, b, rows), padded + at_window(w, b, r) + k,
                  back + at_pixel(w, b, r * b->s.stride, 0) + k, sums + k * taps);
    product((const REAL *)room->slope, 1, chunks * V, room->spread, chunks, rows * columns_out(&b->s),
            sums + chunks * taps, chunks, w->s->channels, chunks, 1);
}

/* Add the transposed depthwise convolution of `back` to the sums in a source, or write that through relu as gradient of
   the block before, with its sums. */
static void leave(const Wave *w, const Block *b, int64_t e, int64_t n, const Room *room, const vec *padded, vec *sum,
                  const Gradients *of, double *sums) {
    const Shape *s = &b->s;
    int64_t chunks = chunks_of(s), p = padding_of(s), taps = s->kernel * s->kernel;
    const vec *flipped = weights_at(w, e, b) + 25 * chunks, *back = room->back[b->depth > 0];
    for (BANDS_OF(s->height, s->width))
        for (int64_t k = 0; k < chunks; k++) {
            int64_t first = r * s->width * chunks + k;
            Plane plane = {rows, s->width, wide_of(w, b), chunks, 1, s->dilation};
            const vec *corner = back + at_pixel(w, b, r - p, -p) + k;
            if (!b->depth) { depthwise(s->kernel, plane, corner, flipped + k * taps, sum + first, 1); continue; }
            vec *to = inner_of(w, of, b, e, n) + first;
            depthwise(s->kernel, plane, corner, flipped + k * taps, to, 0);
            for (int64_t i = 0; i < rows; i++) {
                const vec *seen = padded + at_pixel(w, b, r + i, 0) + k;
                vec *row = to + i * s->width * chunks;
                for (int64_t j = 0; j < s->width * chunks; j += chunks) row[j] = (vec)((mask)row[j] & (seen[j] > 0));
            }
            add_gradients(V, (const REAL *)to, chunks * V, y_of(b - 1, e, n) + first, chunks,
                         b[-1].mean[e * chunks + k], rows * s->width, sums + k * V, chunks * V);
        }
}

/* Gradients of a block on one edge in its input and weights, for one image. */
static void back_image(const Wave *w, const Block *b, int64_t e, int64_t n, int64_t t, vec *padded, vec *sum,
                       const REAL *node, const Gradients *of) {
    const Shape *s = &b->s;
    const Room *room = w->rooms + t;
    int64_t columns = columns_out(s);
    vec *back = room->back[b->depth > 0];
    if (b->depth) load_rows(w, b, e, n, 0, s->height, padded);
    for (BANDS_OF(rows_out(s), columns)) {
        slopes(w, b, e, n, node, of, r * columns, rows * columns, room->slope);
        through_pointwise(w, b, e, room->slope, r, rows, back);
        if (of->weights) learn(w, b, e, room, padded, back, r, rows, weights_g_at(w, of, t, b, e));
    }
    leave(w, b, e, n, room, padded, sum, of, b->depth ? sums_at(w, of, t, b - 1, e) : NULL);
}

/* One pass over the images for all blocks of one depth: y and its moments (block, thread, edge, chunk), or, for g, the
   gradients in the nodes, those in weights and inputs; those in the sources are written at depth 0. */
static void stage(const Wave *w, const REAL *const *x, int64_t depth, Moments *moments, const REAL *const *g,
                  const Gradients *of, REAL *const *x_g) {
    const Shape *s = w->s;
    int64_t area = area_of(w, w->blocks), direct = s->height * s->width * chunks_of(s), vectors = chunks_of(s);
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        const Room *room = w->rooms + t;
        for (GROUPS_OF(t, w->together))
            for (int64_t source = 0; source < s->sources; source++) {
                if (!depth) move_source(w, room, n, images, x[source], NULL);
                if (!depth && g) memset(room->source_g, 0, images * direct * sizeof *room->source_g);
                for (int64_t e = source * s->nodes; e < (source + 1) * s->nodes; e++)
                    for (BLOCKS_ON(w, e))
                        for (int64_t i = 0; b->depth == depth && i < images; i++) {
                            vec *padded = depth ? room->padded : room->source + i * area;
                            int64_t at = ((b - w->blocks) * s->threads + t) * edges_of(s) + e;
                            vec *sum = room->source_g + i * direct;
                            if (g) back_image(w, b, e, n + i, t, padded, sum, g[e % s->nodes], of);
                            else convolve(w, b, room, padded, e, n + i, moments + at * vectors);
                        }
                if (!depth && g) move_source(w, room, n, images, NULL, x_g[source]);
            }
    }
}

/* Sum those of BatchNorm over the threads, into those of thread 0, for the blocks that the stage of `depth` reads. */
static void join_sums(const Wave *w, int64_t depth, const Gradients *of) {
    int64_t chunks = chunks_of(w->s), count = w->s->images * pixels_out(w->s);
    for (BLOCKS_OF(w))
        for (int64_t e = 0; b->depth == depth && e < edges_of(w->s); e++) {
            if (b->place[e] < 0) continue;
            double *sums = sums_at(w, of, 0, b, e);
            for (int64_t t = 1; t < w->s->threads; t++)
                for (int64_t i = 0; i < of->of_sums; i++) sums[i] += sums_at(w, of, t, b, e)[i];
            for (int64_t k = 0; k < chunks; k++) {
                vec first, second, rstd = b->rstd[e * chunks + k];
                for (int l = 0; l < V; l++)
                    first[l] = sums[k * V + l] / count, second[l] = sums[(chunks + k) * V + l] / count;
                norms_at(w, of, b, e)[k] =
                    (Norm){scale_of(b, e, k), first, second * rstd * rstd, b->mean[e * chunks + k]};
            }
        }
}

/* Write the gradients in the weights of one edge; those of convolutions may be NULL, of gamma and beta too. */
static void store_weights(const Wave *w, const Block *b, int64_t e, const Gradients *of, REAL *const *w_g) {
    int64_t chunks = chunks_of(w->s), c = w->s->channels, taps = b->s.kernel * b->s.kernel;
    const double *sums = sums_at(w, of, 0, b, e);
    for (int64_t i = 0; i < c; i++) {
        if (w_g[2]) w_g[2][e * c + i] = sums[chunks * V + i] * ((const REAL *)(b->rstd + e * chunks))[i];
        if (w_g[3]) w_g[3][e * c + i] = sums[i];
        for (int64_t j = 0; of->weights && j < taps + c; j++) {
            int64_t in = j - taps, at = j < taps ? i / V * taps + j : chunks * taps + i * chunks + in / V;
            REAL sum = 0;
            for (int64_t t = 0; t < w->s->threads; t++)
                sum += weights_g_at(w, of, t, b, e)[at][j < taps ? i % V : in % V];
            if (j < taps) w_g[0][(e * c + i) * taps + j] = sum;
            else w_g[1][(e * c + i) * c + in] = sum;
        }
    }
}

/* --- called from Python ------------------------------------------------------------------------------------------- */

/* s: sizes of the sources, edges, and the stride of the wave; places (block, edge): see Block. Writes nodes, y and
   statistics; those of operations that an edge lacks have no meaning. */
int forward(const Shape *s, int64_t count, const Form *forms, const int64_t *places, const REAL *const *x,
            const REAL *const *weights, vec *const *y, vec *statistics, REAL *const *nodes) {
    int64_t of_block = edges_of(s) * chunks_of(s);
    Block blocks[count];
    Wave w = {.s = s, .blocks = blocks, .count = count};
    set_blocks(&w, forms, places, weights, y, statistics);
    Moments *moments = calloc(count * s->threads * of_block, sizeof *moments);
    int ready = prepare(&w, 0) && moments;
    for (int64_t depth = 0; ready && depth < w.depths; depth++) {
        stage(&w, x, depth, moments, NULL, NULL, NULL);
        for (int64_t b = 0; b < count; b++)
            if (blocks[b].depth == depth)
                normalisation(moments + b * s->threads * of_block, s->threads, of_block, (REAL *)blocks[b].mean,
                              (REAL *)blocks[b].rstd);
    }
    if (ready) mix(&w, nodes);
    free(moments);
    free(w.weights);
    free(w.rooms);
    return !ready;
}

/* Gradients in the sources and in the weights for the gradients g in the nodes. w_g: as `weights`; NULL where weights
   are NULL, and convolutions' all NULL if they are constants. If x_g is NULL, only the gradients in gamma and beta of
   last blocks are written; those of operations that an edge lacks are not. */
int backward(const Shape *s, int64_t count, const Form *forms, const int64_t *places, const REAL *const *x,
             const REAL *const *weights, vec *const *y, vec *statistics, const REAL *const *g, REAL *const *x_g,
             REAL *const *w_g) {
    int64_t chunks = chunks_of(s), parts = s->threads * count * edges_of(s);
    Block blocks[count];
    Wave w = {.s = s, .blocks = blocks, .count = count};
    set_blocks(&w, forms, places, weights, y, statistics);
    Gradients of = {.of_sums = 2 * chunks * V, .of_weights = chunks * (25 + s->channels)};
    int64_t learned = w_g[1] ? parts * of.of_weights : 0;
    of.sums = calloc(parts * of.of_sums, sizeof *of.sums);
    of.norms = malloc(count * edges_of(s) * chunks * sizeof *of.norms);
    of.inner = vectors(w.slots * edges_of(s) * s->images * pixels_out(s) * chunks + learned + 1);
    int ready = prepare(&w, 1) && of.sums && of.norms && of.inner;
    if (ready) {
        of.weights = learned ? of.inner + w.slots * edges_of(s) * s->images * pixels_out(s) * chunks : NULL;
        if (learned) memset(of.weights, 0, learned * sizeof(vec));
        gradient_sums(&w, g, &of);
        for (int64_t depth = w.depths - 1; depth >= 0; depth--) {
            join_sums(&w, depth, &of);
            if (x_g) stage(&w, x, depth, NULL, g, &of, x_g);
        }
        FOR_THREADS
        for (int64_t t = 0; t < s->threads; t++)
            for (int64_t e = edges_of(s) * t / s->threads; e < edges_of(s) * (t + 1) / s->threads; e++)
                for (BLOCKS_ON(&w, e)) store_weights(&w, b, e, &of, w_g + 4 * (b - blocks));
    }
    free(of.sums);
    free(of.norms);
    free(of.inner);
    free(w.weights);
    free(w.rooms);
    return !ready;
}
