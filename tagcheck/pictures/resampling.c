/* Resizing as Pillow does it, to the bit: a filter across the rows, then down the columns, with weights in 2^-22 and
   results rounded to 8 bits after each. Whole numbers of that size are exact in a double, so vectors of them may add
   up in any order.

   What lies around the picture in its canvas is one colour, so it is no pixels but a number for each result: what the
   weights that fall there come to. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#define SHARED __declspec(dllexport)
#else
#define SHARED __attribute__((visibility("default")))
#endif
#if defined(__x86_64__) && !defined(_WIN32)
#define WIDE __attribute__((target("avx2,fma")))
#endif
#define ALWAYS static inline __attribute__((always_inline))
#define ONE (1 << 22)   /* a weight of 1 */
#define ROWS 4          /* that are resized beside each other */
#define COLUMNS 64      /* that are added up at a time on the way down */
#define PI 3.14159265358979323846

enum { BOX, BILINEAR, BICUBIC, LANCZOS };

/* `length` pixels after `before` others, of a canvas of `whole`; the part from `low` to `high` becomes `count` pixels. */
struct axis {
    int64_t before, length, whole, count;
    float low, high;
};

/* For each result the first pixel, `taps` weights, and the weight of what is no pixel; an empty one where there is no memory. */
struct weights {
    int64_t taps, *first;
    double *each, *rest;
};

typedef double pixel __attribute__((vector_size(32), aligned(8))); /* red, green, blue, and the next one's red */

static double sinc(double x)
{
    return x == 0 ? 1 : sin(x * PI) / (x * PI);
}

static double filter_at(int filter, double x)
{
    if (filter == BOX)
        return x > -0.5 && x <= 0.5;
    if (filter == LANCZOS)
        return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    x = x < 0 ? -x : x;
    if (filter == BILINEAR)
        return x < 1 ? 1 - x : 0;
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

static struct weights weights_of(const struct axis *a, int filter)
{
    static const double supports[] = {0.5, 1, 2, 3};
    double scale = (double)(a->high - a->low) / a->count, coarser = scale < 1 ? 1 : scale, narrower = 1 / coarser;
    double support = supports[filter] * coarser;
    int64_t most = (int64_t)(2 * support + 0.001) + 1, taps = most < a->length ? most : a->length;
    double *found = malloc(most * sizeof *found);
    struct weights w = {taps, calloc(a->count, sizeof *w.first), calloc(a->count * taps, sizeof *w.each), calloc(a->count, sizeof *w.rest)};
    for (int64_t i = 0; found && w.first && w.each && w.rest && i < a->count; i++) {
        double centre = a->low + (i + 0.5) * scale, sum = 0;
        int64_t from = (int64_t)(centre - support + 0.5), to = (int64_t)(centre + support + 0.5);
        from = from < 0 ? 0 : from, to = to > a->whole ? a->whole : to;
        for (int64_t place = from; place < to; place++)
            sum += found[place - from] = filter_at(filter, (place - centre + 0.5) * narrower);
        int64_t first = from - a->before, last = a->length - taps;
        w.first[i] = first < 0 ? 0 : first > last ? last : first;
        for (int64_t place = from; place < to; place++) {
            double weight = (sum != 0 ? found[place - from] / sum : found[place - from]) * ONE;
            weight = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
            int64_t inside = place - a->before;
            if (inside >= 0 && inside < a->length)
                w.each[i * taps + inside - w.first[i]] = weight;
            else
                w.rest[i] += weight;
        }
    }
    if (!found || !w.first || !w.each || !w.rest)
        w.taps = 0;
    free(found);
    return w;
}

static void forget(struct weights w)
{
    free(w.first), free(w.each), free(w.rest);
}

/* What a picture is resized with beside its weights: a row of it and one of the result in doubles, with room for a fourth colour
   of the last pixel; what the way across gives, and a row of the colour around it. */
struct room {
    double *row, *sums;
    uint8_t *between, *around;
};

ALWAYS uint8_t clipped(int32_t sum)
{
    sum >>= 22;
    return sum < 0 ? 0 : sum > 255 ? 255 : sum;
}

/* Rows of `length` pixels to `count` each, `ROWS` of them, of which some may be the same. */
ALWAYS void across(const uint8_t *const *in, int64_t length, const struct weights *w, const struct room *room, uint8_t *const *out, int64_t count)
{
    pixel around = {room->around[0], room->around[1], room->around[2]};
    for (int r = 0; r < ROWS; r++) {
        const uint8_t *restrict from = in[r];
        double *restrict to = room->row + r * (3 * length + 1);
        for (int64_t k = 0; k < 3 * length; k++)
            to[k] = from[k];
    }
    for (int64_t i = 0; i < count; i++) {
        pixel sums[ROWS];
        const double *weights = w->each + i * w->taps, *from = room->row + 3 * w->first[i];
        for (int r = 0; r < ROWS; r++)
            sums[r] = around * w->rest[i] + ONE / 2;
        for (int64_t tap = 0; tap < w->taps; tap++)
            for (int r = 0; r < ROWS; r++)
                sums[r] += weights[tap] * *(const pixel *)(from + r * (3 * length + 1) + 3 * tap);
        for (int r = 0; r < ROWS; r++)
            *(pixel *)(room->sums + r * (3 * count + 1) + 3 * i) = sums[r];
    }
    for (int r = 0; r < ROWS; r++) {
        const double *restrict from = room->sums + r * (3 * count + 1);
        uint8_t *restrict to = out[r];
        for (int64_t k = 0; k < 3 * count; k++)
            to[k] = clipped((int32_t)from[k]);
    }
}

/* Row `i` of the result, `bytes` long, from what is between. */
ALWAYS void down(int64_t bytes, const struct weights *w, int64_t i, const struct room *room, uint8_t *restrict out)
{
    for (int64_t x = 0; x < bytes; x += COLUMNS) {
        const uint8_t *restrict in = room->between + w->first[i] * bytes + x;
        int32_t sums[COLUMNS], rest = (int32_t)w->rest[i];
        int64_t some = bytes - x < COLUMNS ? bytes - x : COLUMNS;
        for (int64_t k = 0; k < some; k++)
            sums[k] = rest * room->around[x + k] + ONE / 2;
        for (int64_t tap = 0; tap < w->taps; tap++) {
            int32_t weight = (int32_t)w->each[i * w->taps + tap];
            for (int64_t k = 0; k < some; k++)
                sums[k] += weight * in[tap * bytes + k];
        }
        for (int64_t k = 0; k < some; k++)
            out[x + k] = clipped(sums[k]);
    }
}

ALWAYS void both(const uint8_t *in, const struct axis *axes, const struct weights *w, const struct room *room, uint8_t *out, int64_t step)
{
    int64_t bytes = 3 * axes[0].count;
    for (int64_t y = 0; y < axes[1].length; y += ROWS) {
        const uint8_t *from[ROWS];
        uint8_t *to[ROWS];
        for (int r = 0; r < ROWS; r++) {
            int64_t at = y + r < axes[1].length ? y + r : axes[1].length - 1;
            from[r] = in + 3 * at * axes[0].length, to[r] = room->between + at * bytes;
        }
        across(from, axes[0].length, w, room, to, axes[0].count);
    }
    for (int64_t i = 0; i < axes[1].count; i++)
        down(bytes, w + 1, i, room, out + i * step);
}

#ifdef WIDE
WIDE static void both_wide(const uint8_t *in, const struct axis *axes, const struct weights *w, const struct room *room, uint8_t *out, int64_t step)
{
    both(in, axes, w, room, out, step);
}
#endif

/* The picture `in`, rows of red, green and blue, resized along both axes (x, y) in a canvas of a `colour`; its rows are
   put `step` bytes apart into `out`. Returns 0 where there is no memory. */
SHARED int tagcheck_resize(const uint8_t *in, const struct axis *axes, int filter, const uint8_t *colour, uint8_t *out, int64_t step)
{
    struct weights w[2] = {weights_of(axes, filter), weights_of(axes + 1, filter)};
    int64_t bytes = 3 * axes[0].count;
    struct room room = {calloc(ROWS * (3 * axes[0].length + 1), sizeof(double)), malloc(ROWS * (bytes + 1) * sizeof(double)), malloc(bytes * axes[1].length), malloc(bytes)};
    int done = w[0].taps && w[1].taps && room.row && room.sums && room.between && room.around;
    if (done) {
        for (int64_t k = 0; k < bytes; k++)
            room.around[k] = colour[k % 3];
#ifdef WIDE
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            both_wide(in, axes, w, &room, out, step);
        else
#endif
            both(in, axes, w, &room, out, step);
    }
    forget(w[0]), forget(w[1]);
    free(room.row), free(room.sums), free(room.between), free(room.around);
    return done;
}
