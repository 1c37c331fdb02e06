/* Attention, and all blocks of a vision transformer, in bfloat16; products are added up in float32.

   tagcheck_attention: softmax(Q K^T / 8) V of heads of 64 numbers, for processors with AVX-512 BF16. A head's K and V are
   packed once, as pairs of numbers that one instruction takes. Then SIX queries at a time: all their scores, which stay in
   a near cache in float32; e to the power of what each is below its row's highest; the weighted sum of V.
   qkv   picture, token: `heads` queries of 64 numbers, then as many keys, then values; at least SIX tokens
   out   picture, token: `heads` results of 64
   A head is computed by itself, so its result depends on nothing else.

   tagcheck_blocks, tagcheck_convolution: all blocks, and a step of the stem, for one picture, by the tiles of AMX.

   All return 0 where there is no memory. */

#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#define SHARED __declspec(dllexport)
#else
#define SHARED __attribute__((visibility("default")))
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)) && !defined(_WIN32)
#include <immintrin.h>

#include <cpuid.h>
#if defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define HAS_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define KERNEL __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define ALWAYS static inline __attribute__((always_inline))
#define WIDE 64          /* numbers of a head */
#define PAIRS (WIDE / 2)
#define SIX 6            /* queries at a time: 6 x 4 sums fit the registers */
#define GROUP 16         /* keys that lie beside each other */
#define ROWS 416         /* that are multiplied with all weights before others: they fit a near cache */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define SCALE (1.4426950408889634f / 8)
#define BLOCK 32         /* queries at a time with AMX: two tiles of 16 */

struct head {
    int64_t tokens, padded, step, heads; /* padded: to 32 keys; step: from token to token, in numbers */
    uint32_t *keys;                      /* group of keys, pair of numbers, key */
    uint32_t *values;                    /* pair of keys, number: the two keys' */
    float *scores;                       /* query, key */
    uint32_t *weights;                   /* query, pair of keys */
};

KERNEL ALWAYS uint32_t word(const void *from)
{
    uint32_t value;
    __builtin_memcpy(&value, from, 4);
    return value;
}

KERNEL static void pack(struct head *h, const uint16_t *keys, const uint16_t *values)
{
    const __m512i zero = _mm512_setzero_si512(), step = _mm512_set1_epi32((int)h->step);
    const __m512i lanes = _mm512_mullo_epi32(step, _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    for (int64_t key = 0; key < h->padded; key += GROUP)
        for (int pair = 0; pair < PAIRS; pair++) {
            int64_t left = h->tokens - key;
            __mmask16 there = left >= GROUP ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
            const uint16_t *from = keys + key * h->step + 2 * pair;
            __m512i words = _mm512_mask_i32gather_epi32(zero, there, lanes, from, 2);
            _mm512_storeu_si512(h->keys + key * PAIRS + pair * GROUP, words);
        }
    for (int64_t key = 0; key < h->padded; key += 2)
        for (int d = 0; d < WIDE; d += 16) {
            const __m256i *from = (const __m256i *)(values + key * h->step + d);
            const __m256i *second = (const __m256i *)(values + (key + 1) * h->step + d);
            __m512i one = key < h->tokens ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(from)) : zero;
            __m512i two = key + 1 < h->tokens ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(second)) : zero;
            _mm512_storeu_si512(h->values + key * PAIRS + d, _mm512_or_si512(one, _mm512_slli_epi32(two, 16)));
        }
}

KERNEL ALWAYS __m512bh as_pairs(__m512i bits)
{
    return (__m512bh)bits;
}

/* Scores of six queries with `vectors` x 16 keys from `first` on. */
KERNEL ALWAYS void score(const struct head *h, const uint16_t *queries, int64_t first, const int vectors)
{
    const uint32_t *keys = h->keys + first * PAIRS;
    __m512 sums[SIX][4];
    for (int q = 0; q < SIX; q++)
        for (int v = 0; v < vectors; v++)
            sums[q][v] = _mm512_setzero_ps();
    for (int pair = 0; pair < PAIRS; pair++) {
        __m512bh key[4];
        for (int v = 0; v < vectors; v++)
            key[v] = as_pairs(_mm512_loadu_si512(keys + (v * PAIRS + pair) * GROUP));
        for (int q = 0; q < SIX; q++) {
            __m512bh query = as_pairs(_mm512_set1_epi32((int)word(queries + q * h->step + 2 * pair)));
            for (int v = 0; v < vectors; v++)
                sums[q][v] = _mm512_dpbf16_ps(sums[q][v], query, key[v]);
        }
    }
    for (int v = 0; v < vectors; v++)
        for (int q = 0; q < SIX; q++)
            _mm512_storeu_ps(h->scores + q * h->padded + first + 16 * v, sums[q][v]);
}

/* 2^x, to a ten thousandth: 2^n times a polynomial for the rest in [-1/2, 1/2]. */
KERNEL ALWAYS __m512 power_of_two(__m512 x)
{
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(5.500282e-2f), f, _mm512_set1_ps(2.4220329e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9328299e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

/* The highest of a query's scores, as `powers` takes it. Scores of keys that are not there become the lowest. */
KERNEL ALWAYS __m512 highest(const struct head *h, float *scores)
{
    __m512 top = _mm512_set1_ps(-__builtin_inff());
    for (int64_t key = h->tokens; key < h->padded; key++)
        scores[key] = -__builtin_inff();
    for (int64_t key = 0; key < h->padded; key += 16)
        top = _mm512_max_ps(top, _mm512_loadu_ps(scores + key));
    return _mm512_set1_ps(_mm512_reduce_max_ps(top) * SCALE);
}

/* 32 scores -> their weights, not yet divided by the sum of all, to which what is returned counts. */
KERNEL ALWAYS __m512 powers(const float *scores, __m512 top, uint32_t *weights)
{
    const __m512 scale = _mm512_set1_ps(SCALE);
    __m512 low = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores), scale, top));
    __m512 high = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + 16), scale, top));
    _mm512_storeu_si512(weights, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    return _mm512_add_ps(low, high);
}

/* A query's 64 results, the second 32 `further` numbers behind the first. */
KERNEL ALWAYS void put(const __m512 *sums, float total, uint16_t *to, int64_t further)
{
    for (int v = 0; v < 4; v++) {
        __m512 mean = _mm512_div_ps(sums[v], _mm512_set1_ps(total));
        _mm256_storeu_si256((__m256i *)(to + v / 2 * further + v % 2 * 16), (__m256i)_mm512_cvtneps_pbh(mean));
    }
}

/* The weighted sums of V for six queries. */
KERNEL static void mix(const struct head *h, const float *total, uint16_t *out)
{
    __m512 sums[SIX][4];
    for (int q = 0; q < SIX; q++)
        for (int v = 0; v < 4; v++)
            sums[q][v] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < h->padded / 2; pair++) {
        const uint32_t *values = h->values + pair * WIDE;
        __m512bh value[4];
        for (int v = 0; v < 4; v++)
            value[v] = as_pairs(_mm512_loadu_si512(values + 16 * v));
        for (int q = 0; q < SIX; q++) {
            __m512bh weight = as_pairs(_mm512_set1_epi32((int)h->weights[q * (h->padded / 2) + pair]));
            for (int v = 0; v < 4; v++)
                sums[q][v] = _mm512_dpbf16_ps(sums[q][v], weight, value[v]);
        }
    }
    for (int q = 0; q < SIX; q++)
        put(sums[q], total[q], out + q * h->heads * WIDE, 32);
}

KERNEL static void attend(struct head *h, const uint16_t *queries, uint16_t *out)
{
    for (int64_t first = 0; first < h->tokens; first += SIX) {
        if (first + SIX > h->tokens)
            first = h->tokens - SIX; /* some of them once more, with the same result */
        const uint16_t *six = queries + first * h->step;
        float sums[SIX];
        int64_t key = 0;
        for (; key + 64 <= h->padded; key += 64)
            score(h, six, key, 4);
        if (key < h->padded)
            score(h, six, key, 2);
        for (int q = 0; q < SIX; q++) {
            float *scores = h->scores + q * h->padded;
            __m512 top = highest(h, scores), sum = _mm512_setzero_ps();
            for (key = 0; key < h->padded; key += 32)
                sum = _mm512_add_ps(sum, powers(scores + key, top, h->weights + (q * h->padded + key) / 2));
            sums[q] = _mm512_reduce_add_ps(sum);
        }
        mix(h, sums, out + first * h->heads * WIDE);
    }
}

/* Whether the processor has tiles, and whether this process may use them: the system is asked, which costs little. */
static int has_tiles(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);
}

static int tiles_work(void)
{
#ifdef HAS_AMX
    return has_tiles() && syscall(SYS_arch_prctl, 0x1023, 18) == 0; /* ARCH_REQ_XCOMP_PERM, XTILEDATA */
#else
    return 0;
#endif
}

#ifdef HAS_AMX
#define TILES __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))

/* How tiles are laid out: all of them 16 rows of 64 bytes. */
struct layout {
    uint8_t palette, start, unused[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} __attribute__((aligned(64)));

/* Two tiles of `left` (16 rows of 32 numbers, `step` numbers apart, the second below) and two of `right` (16 pairs, `wide`
   words apart, the second `further` words behind); and their products, added to tiles 0 to 3. */
#define LOAD_TILES(left, step, right, wide, further)            \
    do {                                                        \
        _tile_loadd(4, (left), 2 * (step));                     \
        _tile_loadd(6, (right), 4 * (wide));                    \
        _tile_loadd(7, (right) + (further), 4 * (wide));        \
        _tile_loadd(5, (left) + 16 * (step), 2 * (step));       \
    } while (0)

#define MULTIPLY_TILES()                                        \
    do {                                                        \
        _tile_dpbf16ps(0, 4, 6);                                \
        _tile_dpbf16ps(1, 4, 7);                                \
        _tile_dpbf16ps(2, 5, 6);                                \
        _tile_dpbf16ps(3, 5, 7);                                \
    } while (0)

#define ZERO_TILES()                                           \
    do {                                                        \
        _tile_zero(0);                                          \
        _tile_zero(1);                                          \
        _tile_zero(2);                                          \
        _tile_zero(3);                                          \
    } while (0)

/* The scores of a block of queries are multiplied while those of the block before are weighed: tiles are waited for otherwise. */
TILES static void attend_in_tiles(struct head *h, const uint16_t *queries, uint16_t *out)
{
    float *scores = h->scores, *old = h->scores + BLOCK * h->padded, mixed[BLOCK * WIDE] __attribute__((aligned(64)));
    __m512 sums[BLOCK], tops[BLOCK];
    for (int64_t first = 0; first <= h->padded; first += BLOCK, out += BLOCK * h->heads * WIDE) {
        for (int q = 0; q < BLOCK && first; q++)
            tops[q] = highest(h, old + q * h->padded), sums[q] = _mm512_setzero_ps();
        const uint16_t *block = queries + first * h->step;
        if (first < h->padded) {
            _tile_loadd(2, block, 2 * h->step);
            _tile_loadd(3, block + 32, 2 * h->step);
            _tile_loadd(4, block + 16 * h->step, 2 * h->step);
            _tile_loadd(5, block + 16 * h->step + 32, 2 * h->step);
        }
        for (int64_t key = 0; key < h->padded; key += 16) {
            if (first < h->padded) {
                _tile_zero(0);
                _tile_zero(1);
                _tile_loadd(6, h->keys + key * PAIRS, 64);
                _tile_loadd(7, h->keys + key * PAIRS + 16 * GROUP, 64);
                _tile_dpbf16ps(0, 2, 6);
                _tile_dpbf16ps(1, 4, 6);
                _tile_dpbf16ps(0, 3, 7);
                _tile_dpbf16ps(1, 5, 7);
                _tile_stored(0, scores + key, 4 * h->padded);
                _tile_stored(1, scores + 16 * h->padded + key, 4 * h->padded);
            }
            for (int q = key % 32; q < key % 32 + 16 && first; q++) {
                int64_t at = q * h->padded + key / 32 * 32;
                sums[q] = _mm512_add_ps(sums[q], powers(old + at, tops[q], h->weights + at / 2));
            }
        }
        for (int d = 0; d < WIDE && first; d += 32) {
            ZERO_TILES();
            for (int64_t key = 0; key < h->padded; key += 32) {
                LOAD_TILES((const uint16_t *)h->weights + key, h->padded, h->values + key * PAIRS + d, WIDE, 16);
                MULTIPLY_TILES();
            }
            _tile_stored(0, mixed + d, 4 * WIDE);
            _tile_stored(1, mixed + d + 16, 4 * WIDE);
            _tile_stored(2, mixed + d + 16 * WIDE, 4 * WIDE);
            _tile_stored(3, mixed + d + 16 * WIDE + 16, 4 * WIDE);
        }
        for (int q = 0; q < BLOCK && first; q++)
            put((const __m512 *)(mixed + q * WIDE), _mm512_reduce_add_ps(sums[q]), out - BLOCK * h->heads * WIDE + 32 * q, 1024);
        float *swap = scores;
        scores = old, old = swap;
    }
}

/* A product, rows x inner by inner x columns, all multiples of 32. Squares are 32 x 32 numbers, 32 rows of them after another. */
struct product {
    const uint16_t *left;       /* in squares */
    const uint32_t *right;      /* 32 columns: 32 rows: 16 columns: pair of rows, column: the pair */
    int64_t panel;              /* words from 32 columns to the next */
    int64_t rows, inner, columns;
    const float *bias;          /* what is added to each row */
    float *sum;                 /* (rows, columns), to which it is added then; or NULL: */
    int gelu;                   /* whether its GELU is taken */
    uint16_t *out;              /* and where it goes: */
    int64_t step, square, below; /* from row to row, square to square, 32 rows to the next */
    int twice;                  /* whether `left` is multiplied by as many weights again, which follow the first */
};

/* x Phi(x), Phi as a logistic function of a polynomial: within 3e-5. */
TILES ALWAYS __m512 gelu(__m512 x)
{
    __m512 square = _mm512_min_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(36.0f));
    __m512 p = _mm512_fmadd_ps(square, _mm512_set1_ps(1.0147055e-3f), _mm512_set1_ps(-0.10677845f));
    p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(-2.3011183f));
    __m512 power = power_of_two(_mm512_mul_ps(p, x));
    return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(power, _mm512_set1_ps(1.0f))));
}

/* Rows r and r + 16 of a square's sums, four tiles, to where they go. */
TILES ALWAYS void finish(const struct product *p, const float *tiles, int64_t row, int64_t column, int r)
{
    for (; r < 32; r += 16, tiles += 512) {
        __m512 low = _mm512_add_ps(_mm512_load_ps(tiles + r % 16 * 16), _mm512_loadu_ps(p->bias + column));
        __m512 high = _mm512_add_ps(_mm512_load_ps(tiles + r % 16 * 16 + 256), _mm512_loadu_ps(p->bias + column + 16));
        if (p->sum) {
            float *to = p->sum + (row + r) * p->columns + column;
            _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), low));
            _mm512_storeu_ps(to + 16, _mm512_add_ps(_mm512_loadu_ps(to + 16), high));
            continue;
        }
        if (p->gelu)
            low = gelu(low), high = gelu(high);
        uint16_t *to = p->out + row / 32 * p->below + column / 32 * p->square + r * p->step;
        _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

/* What a square gave is finished while the next is multiplied: storing tiles and waiting for them takes half as long again. */
TILES static void multiply(const struct product *p)
{
    float tiles[4 * 256] __attribute__((aligned(64)));
    int64_t down = p->rows / 32, count = down * (p->columns / 32), squares = p->inner / 32, steps = squares << p->twice;
    const uint16_t *left = p->left;
    const uint32_t *right = p->right;
    LOAD_TILES(left, 32, right, 16, 256);
    for (int64_t i = 0, row = 0, column = 0; i < count; i++) {
        int r = i ? 0 : 16;
        const char *soon = (const char *)(right + p->panel) + i % down * steps * 192;
        ZERO_TILES();
        for (int64_t k = 1; k < steps; k++, soon += 192) {
            MULTIPLY_TILES();
            LOAD_TILES(left + 1024 * (k < squares ? k : k - squares), 32, right + 512 * k, 16, 256);
            for (int at = 0; at < 192; at += 64)
                _mm_prefetch(soon + at, _MM_HINT_T1);
            if (k > 3 && r < 16)
                finish(p, tiles, row, column, r++);
        }
        int64_t next = i + 1 < count ? i + 1 : i;
        left = p->left + next % down * 32 * p->inner;
        right = p->right + next / down * p->panel;
        MULTIPLY_TILES();
        LOAD_TILES(left, 32, right, 16, 256);
        for (; r < 16; r++)
            finish(p, tiles, row, column, r);
        _tile_stored(0, tiles, 64);
        _tile_stored(1, tiles + 256, 64);
        _tile_stored(2, tiles + 512, 64);
        _tile_stored(3, tiles + 768, 64);
        row = i % down * 32, column = i / down * 32;
    }
    for (int r = 0; r < 16; r++)
        finish(p, tiles, p->rows - 32, p->columns - 32, r);
}

/* A layer norm; with a gain and an offset, or without and in squares. */
TILES ALWAYS void normalise(const float *x, int64_t width, float eps, const float *gain, const float *offset, uint16_t *to)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 sum = zero, squares = zero;
    for (int64_t at = 0; at < width; at += 16)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + at));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width);
    for (int64_t at = 0; at < width; at += 16) {
        __m512 off = _mm512_sub_ps(_mm512_loadu_ps(x + at), mean);
        squares = _mm512_fmadd_ps(off, off, squares);
    }
    __m512 scale = _mm512_set1_ps(1 / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / width + eps));
    for (int64_t at = 0; at < width; at += 32) {
        __m512 low = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + at), mean), scale);
        __m512 high = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + at + 16), mean), scale);
        if (gain != NULL) { /* and nothing below 0 */
            low = _mm512_max_ps(zero, _mm512_fmadd_ps(low, _mm512_loadu_ps(gain + at), _mm512_loadu_ps(offset + at)));
            high = _mm512_max_ps(zero, _mm512_fmadd_ps(high, _mm512_loadu_ps(gain + at + 16), _mm512_loadu_ps(offset + at + 16)));
        }
        _mm512_storeu_si512(to + (gain ? at : 32 * at), (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

TILES static void normalise_rows(const float *x, int64_t rows, int64_t width, float eps, uint16_t *out)
{
    for (int64_t row = 0; row < rows; row++)
        normalise(x + row * width, width, eps, NULL, NULL, out + row / 32 * 32 * width + row % 32 * 32);
}

/* The weights of a block, packed, and its biases. */
struct parts {
    const uint32_t *qkv, *out, *first, *second;
    const float *qkv_bias, *out_bias, *first_bias, *second_bias;
};

/* Where a picture is computed: its stream x (padded tokens, d), and other numbers. */
struct room {
    struct head head;
    float *x, *zeros;
    uint16_t *y, *wide;
    int64_t hidden;
    float eps;
};

TILES static void block(const struct parts *p, struct room *room)
{
    struct head *h = &room->head;
    const int64_t rows = h->padded, d = h->heads * WIDE, chunk = room->hidden % d ? room->hidden : d;
    for (int64_t top = 0; top < rows; top += ROWS) {
        uint16_t *y = room->y + top * d, *wide = room->wide + top * 3 * d;
        int64_t some = MIN(ROWS, rows - top);
        normalise_rows(room->x + top * d, some, d, room->eps, y);
        multiply(&(struct product){y, p->qkv, 16 * d, some, d, 3 * d, p->qkv_bias, NULL, 0, wide, 3 * d, 32, 96 * d});
    }
    for (int64_t head = 0; head < h->heads; head++) {
        const uint16_t *queries = room->wide + head * WIDE;
        pack(h, queries + d, queries + 2 * d);
        attend_in_tiles(h, queries, room->y + head * 2048);
    }
    for (int64_t top = 0; top < rows; top += ROWS) {
        uint16_t *y = room->y + top * d, *wide = room->wide;
        float *x = room->x + top * d;
        int64_t some = MIN(ROWS, rows - top);
        multiply(&(struct product){y, p->out, 16 * d, some, d, d, p->out_bias, x});
        normalise_rows(x, some, d, room->eps, y);
        for (int64_t at = 0; at < room->hidden; at += chunk) { /* a part of the hidden layer stays in a near cache */
            const uint32_t *first = p->first + at / 32 * 16 * d, *second = p->second + at / 32 * 512;
            const float *bias = at ? room->zeros : p->second_bias;
            multiply(&(struct product){y, first, 16 * d, some, d, chunk, p->first_bias + at, NULL, 1, wide, 32, 1024, 32 * chunk});
            multiply(&(struct product){wide, second, 16 * room->hidden, some, chunk, d, bias, x});
        }
    }
}

/* Layer norm of each pixel, what is below 0 put to 0, and a convolution with weights in two parts. */
struct convolution {
    const float *gain, *offset, *bias;
    const uint32_t *weights;
    int64_t height, width, channels, kernel, stride, padding, columns; /* columns: channels of the result */
    float eps;
};

/* `band` rows of the result, from the row `top` on; `lines` and `squares` hold what goes in. */
TILES static void convolve(const struct convolution *c, const float *x, int64_t top, int64_t band, uint16_t *lines, uint16_t *squares,
                           float *out)
{
    const int64_t across = c->width + 2 * c->padding, long_line = across * c->channels, part = c->kernel * c->channels;
    const int64_t wide = (across - c->kernel) / c->stride + 1, inner = c->kernel * part, rows = (band * wide + 31) / 32 * 32;
    for (int64_t line = 0; line < (band - 1) * c->stride + c->kernel; line++) {
        int64_t y = top * c->stride - c->padding + line;
        uint16_t *to = lines + line * long_line;
        __builtin_memset(to, 0, 2 * long_line);
        for (int64_t at = 0; at < c->width && y >= 0 && y < c->height; at++)
            normalise(x + (y * c->width + at) * c->channels, c->channels, c->eps, c->gain, c->offset, to + (at + c->padding) * c->channels);
    }
    for (int64_t pixel = 0; pixel < band * wide; pixel++)
        for (int64_t line = 0; line < c->kernel; line++) {
            const uint16_t *from = lines + (pixel / wide * c->stride + line) * long_line + pixel % wide * c->stride * c->channels;
            uint16_t *to = squares + pixel / 32 * 32 * inner + line * part * 32 + pixel % 32 * 32;
            for (int64_t at = 0; at < part; at += 32)
                _mm512_storeu_si512(to + at * 32, _mm512_loadu_si512(from + at));
        }
    __builtin_memset(out, 0, 4 * rows * c->columns);
    multiply(&(struct product){squares, c->weights, 32 * inner, rows, inner, c->columns, c->bias, out, .twice = 1});
}

/* Lays this thread's tiles out, and keeps how they were before. */
TILES static void begin_tiles(struct layout *before)
{
    struct layout ours = {.palette = 1};
    for (int tile = 0; tile < 8; tile++)
        ours.bytes[tile] = 64, ours.rows[tile] = 16;
    _tile_storeconfig(before);
    __asm__ volatile("" : : "r"(&ours) : "memory"); /* GCC 12 takes the next line to read its first eight bytes alone */
    _tile_loadconfig(&ours);
}

TILES static void end_tiles(const struct layout *before)
{
    if (before->palette)
        _tile_loadconfig(before);
    else
        _tile_release();
}
#endif

SHARED int tagcheck_tiles_work(void)
{
    return tiles_work();
}

/* `count` blocks of a network over one picture's stream x (tokens, heads * 64), in place. */
SHARED int tagcheck_blocks(float *x, int64_t tokens, int64_t heads, int64_t hidden, const void *parts, int64_t count, float eps)
{
    char *memory = NULL;
#ifdef HAS_AMX
    int64_t rows = (tokens + 31) / 32 * 32, d = heads * WIDE, most = hidden % d == 0 || hidden < 3 * d ? 3 * d : hidden;
    size_t size = 8 * rows * PAIRS + 10 * rows * BLOCK + 4 * rows * d + 4 * d + 2 * rows * (d + most);
    memory = aligned_alloc(64, size);
    if (memory != NULL) {
        struct room room = {.head = {.tokens = tokens, .padded = rows, .step = 3 * d, .heads = heads}, .hidden = hidden, .eps = eps};
        __builtin_memset(memory, 0, size);
        room.head.keys = (uint32_t *)memory;
        room.head.values = room.head.keys + rows * PAIRS;
        room.head.scores = (float *)(room.head.values + rows * PAIRS);
        room.head.weights = (uint32_t *)(room.head.scores + 2 * BLOCK * rows);
        room.zeros = (float *)(room.head.weights + BLOCK * rows / 2);
        room.x = room.zeros + d;
        room.y = (uint16_t *)(room.x + rows * d);
        room.wide = room.y + rows * d;
        __builtin_memcpy(room.x, x, 4 * tokens * d);
        struct layout before;
        begin_tiles(&before);
        for (int64_t i = 0; i < count; i++)
            block((const struct parts *)parts + i, &room);
        end_tiles(&before);
        __builtin_memcpy(x, room.x, 4 * tokens * d);
    }
    free(memory);
#endif
    return memory != NULL;
}

/* `out` has room for 31 pixels more than the result, which are written on. */
SHARED int tagcheck_convolution(const void *convolution, const float *x, float *out)
{
    char *memory = NULL;
#ifdef HAS_AMX
    const struct convolution *c = convolution;
    int64_t across = c->width + 2 * c->padding, wide = (across - c->kernel) / c->stride + 1;
    int64_t high = (c->height + 2 * c->padding - c->kernel) / c->stride + 1, band = wide < ROWS ? ROWS / wide : 1;
    size_t lines = ((band - 1) * c->stride + c->kernel) * across * c->channels;
    size_t squares = (band * wide + 31) / 32 * 32 * c->kernel * c->kernel * c->channels;
    memory = aligned_alloc(64, 2 * (lines + squares));
    if (memory != NULL) {
        struct layout before;
        __builtin_memset(memory, 0, 2 * (lines + squares));
        begin_tiles(&before);
        for (int64_t top = 0; top < high; top += band)
            convolve(c, x, top, MIN(band, high - top), (uint16_t *)memory, (uint16_t *)memory + lines, out + top * wide * c->columns);
        end_tiles(&before);
    }
    free(memory);
#endif
    return memory != NULL;
}

SHARED int tagcheck_attention_works(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
           && __builtin_cpu_supports("avx512bf16");
}

SHARED int tagcheck_attention(const uint16_t *qkv, uint16_t *out, int64_t pictures, int64_t tokens, int64_t heads)
{
    struct head h = {.tokens = tokens, .padded = (tokens + 31) / 32 * 32, .step = 3 * heads * WIDE, .heads = heads};
    size_t packed = 4 * h.padded * PAIRS, scores = 4 * SIX * h.padded;
    char *memory = aligned_alloc(64, 2 * packed + scores + scores / 2);
    if (memory == NULL)
        return 0;
    h.keys = (uint32_t *)memory;
    h.values = (uint32_t *)(memory + packed);
    h.scores = (float *)(memory + 2 * packed);
    h.weights = (uint32_t *)(memory + 2 * packed + scores);
    for (int64_t head = 0; head < pictures * heads; head++) {
        const uint16_t *queries = qkv + head / heads * tokens * h.step + head % heads * WIDE;
        pack(&h, queries + heads * WIDE, queries + 2 * heads * WIDE);
        attend(&h, queries, out + head / heads * tokens * heads * WIDE + head % heads * WIDE);
    }
    free(memory);
    return 1;
}

#else

SHARED int tagcheck_attention_works(void)
{
    return 0;
}
#endif
