/*
 * The reference for signatures: as fast as libsecp256k1 is when nothing is around it. Reads records of 128 bytes
 * (id, public key, signature) and checks each; prints the number that held, and the median and mean nanoseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <secp256k1.h>
#include <secp256k1_schnorrsig.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) return 2;
    fseek(file, 0, SEEK_END);
    long count = ftell(file) / 128, good = 0;
    rewind(file);
    unsigned char *records = malloc(count * 128);
    double *times = malloc(count * sizeof(double)), sum = 0;
    if (!records || !times || count == 0 || fread(records, 128, count, file) != (size_t)count) return 2;
    secp256k1_context *context = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
    for (long i = 0; i < count; i++) {
        unsigned char *r = records + i * 128;
        secp256k1_xonly_pubkey key;
        double start = now();
        good += secp256k1_xonly_pubkey_parse(context, &key, r + 32)
            && secp256k1_schnorrsig_verify(context, r + 64, r, 32, &key);
        times[i] = now() - start;
        sum += times[i];
    }
    qsort(times, count, sizeof(double), compare);
    printf("%ld %.0f %.0f\n", good, times[count / 2], sum / count);
    return 0;
}
