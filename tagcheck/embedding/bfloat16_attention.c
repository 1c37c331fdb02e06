/* softmax(Q K^T / 8) V of heads of 64 numbers in bfloat16, the products added up in float32.

   For processors that multiply bfloat16 (AVX-512 BF16, and AMX where there is one). A head's K and V are packed once, as
   pairs of numbers that one instruction takes. Then SIX queries at a time, or with AMX, BLOCK: all their scores, which
   stay in a near cache in float32; e to the power of what each is below its row's highest; the weighted sum of V.

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
    for (int64_t key = 0; key < h->padded; key++) {
        uint32_t *to = h->keys + key / GROUP * GROUP * PAIRS + key % GROUP;
        for (int pair = 0; pair < PAIRS; pair++)
            to[pair * GROUP] = key < h->tokens ? word(keys + key * h->step + 2 * pair) : 0;
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

/* The scores of `count` queries -> their weights, not yet divided by their sums, which are returned in `sums`. */
KERNEL static void weigh(const struct head *h, int count, float *sums)
{
    const __m512 scale = _mm512_set1_ps(1.4426950408889634f / 8);
    for (int q = 0; q < count; q++) {
        float *scores = h->scores + q * h->padded;
        uint32_t *weights = h->weights + q * (h->padded / 2);
        __m512 highest = _mm512_set1_ps(-__builtin_inff()), sum = _mm512_setzero_ps();
        for (int64_t key = h->tokens; key < h->padded; key++)
            scores[key] = -__builtin_inff();
        for (int64_t key = 0; key < h->padded; key += 16)
            highest = _mm512_max_ps(highest, _mm512_loadu_ps(scores + key));
        __m512 top = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(highest)), scale);
        for (int64_t key = 0; key < h->padded; key += 32) {
            __m512 low = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + key), scale, top));
            __m512 high = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + key + 16), scale, top));
            sum = _mm512_add_ps(sum, _mm512_add_ps(low, high));
            _mm512_storeu_si512(weights + key / 2, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
        sums[q] = _mm512_reduce_add_ps(sum);
    }
}

KERNEL ALWAYS void put(const __m512 *sums, float total, uint16_t *to)
{
    for (int v = 0; v < 4; v++) {
        __m512 mean = _mm512_div_ps(sums[v], _mm512_set1_ps(total));
        _mm256_storeu_si256((__m256i *)(to + 16 * v), (__m256i)_mm512_cvtneps_pbh(mean));
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
        put(sums[q], total[q], out + q * h->heads * WIDE);
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
        weigh(h, SIX, sums);
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

/* Tiles 0 to 3 += the rows of two tiles of `left` (32 numbers a row, `step` numbers apart, the second 16 rows below) times
   two tiles of `right` (16 pairs, `wide` words apart, the second `further` words behind). */
#define ADD_PRODUCTS(left, step, right, wide, further)      \
    do {                                                    \
        _tile_loadd(4, (left), 2 * (step));                 \
        _tile_loadd(5, (left) + 16 * (step), 2 * (step));   \
        _tile_loadd(6, (right), 4 * (wide));                \
        _tile_loadd(7, (right) + (further), 4 * (wide));    \
        _tile_dpbf16ps(0, 4, 6);                            \
        _tile_dpbf16ps(1, 4, 7);                            \
        _tile_dpbf16ps(2, 5, 6);                            \
        _tile_dpbf16ps(3, 5, 7);                            \
    } while (0)

#define ZERO_TILES()                                           \
    do {                                                        \
        _tile_zero(0);                                          \
        _tile_zero(1);                                          \
        _tile_zero(2);                                          \
        _tile_zero(3);                                          \
    } while (0)

/* Tiles 0 to 3 -> 32 x 32 floats, `step` floats from row to row. */
#define STORE_TILES(to, step)                                   \
    do {                                                        \
        _tile_stored(0, (to), 4 * (step));                      \
        _tile_stored(1, (to) + 16, 4 * (step));                 \
        _tile_stored(2, (to) + 16 * (step), 4 * (step));        \
        _tile_stored(3, (to) + 16 * (step) + 16, 4 * (step));   \
    } while (0)

TILES static void attend_in_tiles(struct head *h, const uint16_t *queries, uint16_t *out)
{
    for (int64_t first = 0; first < h->tokens; first += BLOCK) {
        if (first + BLOCK > h->tokens)
            first = h->tokens - BLOCK;
        const uint16_t *block = queries + first * h->step;
        float sums[BLOCK], mixed[BLOCK * WIDE] __attribute__((aligned(64)));
        for (int64_t key = 0; key < h->padded; key += 32) {
            const uint32_t *keys = h->keys + key * PAIRS;
            ZERO_TILES();
            ADD_PRODUCTS(block, h->step, keys, GROUP, GROUP * PAIRS);
            ADD_PRODUCTS(block + 32, h->step, keys + 16 * GROUP, GROUP, GROUP * PAIRS);
            STORE_TILES(h->scores + key, h->padded);
        }
        weigh(h, BLOCK, sums);
        for (int d = 0; d < WIDE; d += 32) {
            ZERO_TILES();
            for (int64_t key = 0; key < h->padded; key += 32)
                ADD_PRODUCTS((const uint16_t *)h->weights + key, h->padded, h->values + key * PAIRS + d, WIDE, 16);
            STORE_TILES(mixed + d, WIDE);
        }
        for (int q = 0; q < BLOCK; q++)
            put((const __m512 *)(mixed + q * WIDE), sums[q], out + (first + q) * h->heads * WIDE);
    }
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

SHARED int tagcheck_attention_works(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
           && __builtin_cpu_supports("avx512bf16") && (!has_tiles() || tiles_work()); /* else PyTorch's own is faster */
}

SHARED int tagcheck_attention(const uint16_t *qkv, uint16_t *out, int64_t pictures, int64_t tokens, int64_t heads)
{
    struct head h = {.tokens = tokens, .padded = (tokens + 31) / 32 * 32, .step = 3 * heads * WIDE, .heads = heads};
    size_t packed = 4 * h.padded * PAIRS, scores = 4 * BLOCK * h.padded;
    char *memory = aligned_alloc(64, 2 * packed + scores + scores / 2);
    if (memory == NULL)
        return 0;
    h.keys = (uint32_t *)memory;
    h.values = (uint32_t *)(memory + packed);
    h.scores = (float *)(memory + 2 * packed);
    h.weights = (uint32_t *)(memory + 2 * packed + scores);
    void (*each)(struct head *, const uint16_t *, uint16_t *) = attend;
#ifdef HAS_AMX
    struct layout before;
    if (tokens >= BLOCK && tiles_work()) {
        each = attend_in_tiles;
        begin_tiles(&before);
    }
#endif
    for (int64_t head = 0; head < pictures * heads; head++) {
        const uint16_t *queries = qkv + head / heads * tokens * h.step + head % heads * WIDE;
        pack(&h, queries + heads * WIDE, queries + 2 * heads * WIDE);
        each(&h, queries, out + head / heads * tokens * heads * WIDE + head % heads * WIDE);
    }
#ifdef HAS_AMX
    if (each == attend_in_tiles)
        end_tiles(&before);
#endif
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
