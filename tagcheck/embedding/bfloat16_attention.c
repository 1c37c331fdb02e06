/* softmax(Q K^T / 8) V of heads of 64 numbers in bfloat16, the products added up in float32.

   For processors that multiply bfloat16 (AVX-512 BF16) and have no AMX. A head's K and V are packed once, as pairs
   of numbers that one instruction takes. Then SIX queries at a time: all their scores, which stay in the innermost
   cache in float32; e to the power of what each is below its row's highest; the weighted sum of V.

   qkv   picture, token: `heads` queries of 64 numbers, then as many keys, then values
   out   picture, token: `heads` results of 64
   A head is computed by itself, so its result depends on nothing else. At least SIX tokens. Returns 0 where there is
   no memory. */

#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#define SHARED __declspec(dllexport)
#else
#define SHARED __attribute__((visibility("default")))
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)) && !defined(_WIN32)
#include <immintrin.h>

#define KERNEL __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define ALWAYS static inline __attribute__((always_inline))
#define WIDE 64          /* numbers of a head */
#define PAIRS (WIDE / 2)
#define SIX 6            /* queries at a time: 6 x 4 sums fit the registers */
#define TILE 64          /* keys of one pass over the queries */

struct head {
    int64_t tokens, padded, step, heads; /* padded: to 16 keys; step: from token to token, in numbers */
    uint32_t *keys;                      /* tile of 64 keys, pair of numbers, key */
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
    for (int64_t key = 0; key < h->padded; key++) {
        uint32_t *to = h->keys + (key / TILE) * TILE * PAIRS + key % TILE;
        for (int pair = 0; pair < PAIRS; pair++)
            to[pair * TILE] = key < h->tokens ? word(keys + key * h->step + 2 * pair) : 0;
    }
    for (int64_t key = 0; key < h->padded; key += 2) {
        uint32_t *to = h->values + key * PAIRS;
        const uint16_t *one = values + key * h->step, *two = one + h->step;
        for (int d = 0; d < WIDE; d++)
            to[d] = key + 1 < h->tokens ? one[d] | (uint32_t)two[d] << 16 : key < h->tokens ? one[d] : 0;
    }
}

KERNEL ALWAYS __m512bh as_pairs(__m512i bits)
{
    return (__m512bh)bits;
}

/* Scores of six queries with `vectors` x 16 keys of a tile; the highest so far of each query and place. */
KERNEL ALWAYS void score(const struct head *h, const uint16_t *queries, int64_t tile, const int vectors, __m512 *highest)
{
    const uint32_t *keys = h->keys + tile * TILE * PAIRS;
    __m512 sums[SIX][4];
    for (int q = 0; q < SIX; q++)
        for (int v = 0; v < vectors; v++)
            sums[q][v] = _mm512_setzero_ps();
    for (int pair = 0; pair < PAIRS; pair++) {
        __m512bh key[4];
        for (int v = 0; v < vectors; v++)
            key[v] = as_pairs(_mm512_loadu_si512(keys + pair * TILE + 16 * v));
        for (int q = 0; q < SIX; q++) {
            __m512bh query = as_pairs(_mm512_set1_epi32((int)word(queries + q * h->step + 2 * pair)));
            for (int v = 0; v < vectors; v++)
                sums[q][v] = _mm512_dpbf16_ps(sums[q][v], query, key[v]);
        }
    }
    for (int v = 0; v < vectors; v++) {
        int64_t left = h->tokens - tile * TILE - 16 * v;
        __mmask16 real = left >= 16 ? 0xffff : (__mmask16)((1 << left) - 1);
        for (int q = 0; q < SIX; q++) {
            __m512 found = _mm512_mask_mov_ps(_mm512_set1_ps(-__builtin_inff()), real, sums[q][v]);
            _mm512_storeu_ps(h->scores + q * h->padded + tile * TILE + 16 * v, found);
            highest[q] = _mm512_max_ps(highest[q], found);
        }
    }
}

/* 2^x for x <= 0, to 3 millionths: 2^n times a polynomial for the rest in [-1/2, 1/2]. */
KERNEL ALWAYS __m512 power_of_two(__m512 x)
{
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(9.58285e-3f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.590643e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4024099e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931242e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

/* The scores of six queries -> their weights, not yet divided by their sums, which are returned in `sums`. */
KERNEL static void weigh(const struct head *h, const __m512 *highest, float *sums)
{
    const __m512 scale = _mm512_set1_ps(1.4426950408889634f / 8);
    for (int q = 0; q < SIX; q++) {
        const float *scores = h->scores + q * h->padded;
        uint32_t *weights = h->weights + q * (h->padded / 2);
        __m512 top = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(highest[q])), scale);
        __m512 sum = _mm512_setzero_ps();
        int64_t key = 0;
        for (; key + 32 <= h->padded; key += 32) {
            __m512 low = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + key), scale, top));
            __m512 high = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + key + 16), scale, top));
            sum = _mm512_add_ps(sum, _mm512_add_ps(low, high));
            _mm512_storeu_si512(weights + key / 2, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
        if (key < h->padded) {
            __m512 low = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + key), scale, top));
            sum = _mm512_add_ps(sum, low);
            _mm256_storeu_si256((__m256i *)(weights + key / 2), (__m256i)_mm512_cvtneps_pbh(low));
        }
        sums[q] = _mm512_reduce_add_ps(sum);
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
    for (int q = 0; q < SIX; q++) {
        __m512 divisor = _mm512_set1_ps(total[q]);
        uint16_t *to = out + q * h->heads * WIDE;
        for (int v = 0; v < 4; v++)
            _mm256_storeu_si256((__m256i *)(to + 16 * v), (__m256i)_mm512_cvtneps_pbh(_mm512_div_ps(sums[q][v], divisor)));
    }
}

KERNEL static void attend(struct head *h, const uint16_t *queries, uint16_t *out)
{
    int64_t tiles = h->padded / TILE, rest = h->padded % TILE / 16;
    for (int64_t first = 0; first < h->tokens; first += SIX) {
        if (first + SIX > h->tokens)
            first = h->tokens - SIX; /* some of them once more, with the same result */
        const uint16_t *six = queries + first * h->step;
        float sums[SIX];
        __m512 highest[SIX];
        for (int q = 0; q < SIX; q++)
            highest[q] = _mm512_set1_ps(-__builtin_inff());
        for (int64_t tile = 0; tile < tiles; tile++)
            score(h, six, tile, 4, highest);
        if (rest == 1)
            score(h, six, tiles, 1, highest);
        else if (rest == 2)
            score(h, six, tiles, 2, highest);
        else if (rest == 3)
            score(h, six, tiles, 3, highest);
        weigh(h, highest, sums);
        mix(h, sums, out + first * h->heads * WIDE);
    }
}

SHARED int tagcheck_attention_works(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
           && __builtin_cpu_supports("avx512bf16");
}

SHARED int tagcheck_attention(const uint16_t *qkv, uint16_t *out, int64_t pictures, int64_t tokens, int64_t heads)
{
    struct head h = {.tokens = tokens, .padded = (tokens + 15) / 16 * 16, .step = 3 * heads * WIDE, .heads = heads};
    int64_t tiled = (h.padded + TILE - 1) / TILE * TILE;
    size_t keys = 4 * tiled * PAIRS, values = 4 * h.padded * PAIRS, scores = 4 * SIX * h.padded;
    char *memory = aligned_alloc(64, (keys + values + scores + scores / 2 + 63) / 64 * 64);
    if (memory == NULL)
        return 0;
    h.keys = (uint32_t *)memory;
    h.values = (uint32_t *)(memory + keys);
    h.scores = (float *)(memory + keys + values);
    h.weights = (uint32_t *)(memory + keys + values + scores);
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

SHARED int tagcheck_attention(const uint16_t *qkv, uint16_t *out, int64_t pictures, int64_t tokens, int64_t heads)
{
    (void)qkv, (void)out, (void)pictures, (void)tokens, (void)heads;
    return 0;
}

#endif
