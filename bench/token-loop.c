/*
 * token-loop MODULE TOKEN-LABEL KEK-LABEL BLOB-FILE DEVICE-MODULUS-FILE SECONDS THREADS rewrap|release [KWP-MECHANISM] < PIN
 *
 * The PKCS#11 calls of one key release in a bare C loop: what the token itself can do. `rewrap` is what moves the key
 * (src/tokens/pkcs11/pkcs11-hsm.ts, rewrap); `release` is all that the token process asks for one release (src/tokens/warden.ts): the
 * record's MAC before it and the ECDSA signature of the delivery after it, too. BLOB-FILE holds an RSA private key wrapped under the KEK;
 * DEVICE-MODULUS-FILE the delivery key's modulus, big-endian, raw; its exponent is 65537. One session per thread. Prints
 * `threads=N seconds=S releases=R rate=R/S`.
 *
 * cc -std=c11 -D_DEFAULT_SOURCE -O2 -I node_modules/pkcs11js/includes -o dist/native/token-loop bench/token-loop.c -ldl -pthread
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NULL_PTR 0
#include <pkcs11/pkcs11.h>

#define MAX 4096
#define CHECK(call) do { CK_RV rv_ = (call); if (rv_) { fprintf(stderr, "token-loop: 0x%lx from %s\n", (unsigned long)rv_, #call); exit(1); } } while (0)

static CK_FUNCTION_LIST_PTR p11;
static CK_SLOT_ID slot;
static CK_OBJECT_HANDLE kek, records, signer; /* the last two only for `release` */
static CK_MECHANISM kwp = { 0x210A, NULL_PTR, 0 };
static CK_BYTE blob[MAX], modulus[MAX];
static CK_ULONG blob_length, modulus_length;
static double seconds;

static CK_ULONG read_file(const char *path, CK_BYTE *into) {
  FILE *file = fopen(path, "rb");
  if (!file) { perror(path); exit(2); }
  CK_ULONG length = fread(into, 1, MAX, file);
  fclose(file);
  return length;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static CK_SESSION_HANDLE open_session(void) {
  CK_SESSION_HANDLE session;
  CHECK(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL_PTR, NULL_PTR, &session));
  return session;
}

static void sign(CK_SESSION_HANDLE session, CK_MECHANISM_TYPE type, CK_OBJECT_HANDLE key, CK_ULONG length) {
  CK_BYTE data[MAX] = { 0 }, signature[MAX];
  CK_ULONG signature_length = MAX;
  CK_MECHANISM mechanism = { type, NULL_PTR, 0 };
  CHECK(p11->C_SignInit(session, &mechanism, key));
  CHECK(p11->C_Sign(session, data, length, signature, &signature_length));
}

static void rewrap(CK_SESSION_HANDLE session) {
  CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
  CK_OBJECT_CLASS private_key = CKO_PRIVATE_KEY, public_key = CKO_PUBLIC_KEY, secret = CKO_SECRET_KEY;
  CK_KEY_TYPE rsa = CKK_RSA, aes = CKK_AES;
  CK_ULONG length = 32, wrapped_length = MAX;
  CK_BYTE exponent[] = { 1, 0, 1 }, wrapped[MAX], found_modulus[MAX], found_exponent[16];
  CK_MECHANISM generate = { CKM_AES_KEY_GEN, NULL_PTR, 0 };
  CK_RSA_PKCS_OAEP_PARAMS sha1 = { CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL_PTR, 0 };
  CK_MECHANISM oaep = { CKM_RSA_PKCS_OAEP, &sha1, sizeof sha1 };
  CK_ATTRIBUTE key_template[] = { { CKA_CLASS, &private_key, sizeof private_key }, { CKA_KEY_TYPE, &rsa, sizeof rsa }, { CKA_TOKEN, &no, 1 },
                                  { CKA_PRIVATE, &yes, 1 }, { CKA_SENSITIVE, &yes, 1 }, { CKA_EXTRACTABLE, &yes, 1 } };
  CK_ATTRIBUTE numbers[] = { { CKA_MODULUS, found_modulus, sizeof found_modulus }, { CKA_PUBLIC_EXPONENT, found_exponent, sizeof found_exponent } };
  CK_ATTRIBUTE cek_template[] = { { CKA_CLASS, &secret, sizeof secret }, { CKA_KEY_TYPE, &aes, sizeof aes }, { CKA_VALUE_LEN, &length, sizeof length },
                                  { CKA_TOKEN, &no, 1 }, { CKA_PRIVATE, &yes, 1 }, { CKA_SENSITIVE, &yes, 1 }, { CKA_EXTRACTABLE, &yes, 1 }, { CKA_WRAP, &yes, 1 } };
  CK_ATTRIBUTE device_template[] = { { CKA_CLASS, &public_key, sizeof public_key }, { CKA_KEY_TYPE, &rsa, sizeof rsa }, { CKA_TOKEN, &no, 1 },
                                     { CKA_PRIVATE, &no, 1 }, { CKA_WRAP, &yes, 1 }, { CKA_MODULUS, modulus, modulus_length },
                                     { CKA_PUBLIC_EXPONENT, exponent, sizeof exponent } };
  CK_OBJECT_HANDLE key, cek, device;
  CHECK(p11->C_UnwrapKey(session, &kwp, kek, blob, blob_length, key_template, 6, &key));
  CHECK(p11->C_GetAttributeValue(session, key, numbers, 2));
  CHECK(p11->C_GenerateKey(session, &generate, cek_template, 8, &cek));
  CHECK(p11->C_CreateObject(session, device_template, 7, &device));
  CHECK(p11->C_WrapKey(session, &oaep, device, cek, wrapped, &wrapped_length));
  CHECK(p11->C_DestroyObject(session, device));
  wrapped_length = MAX;
  CHECK(p11->C_WrapKey(session, &kwp, cek, key, wrapped, &wrapped_length));
  CHECK(p11->C_DestroyObject(session, cek));
  CHECK(p11->C_DestroyObject(session, key));
}

/* 380 bytes: a key record in its canonical form; 32: the digest that ECDSA signs. */
static void release(CK_SESSION_HANDLE session) {
  if (records) sign(session, CKM_SHA256_HMAC, records, 380);
  rewrap(session);
  if (signer) sign(session, CKM_ECDSA, signer, 32);
}

static CK_OBJECT_HANDLE find(CK_SESSION_HANDLE session, const char *label, CK_OBJECT_CLASS class) {
  CK_OBJECT_HANDLE key;
  CK_ULONG found = 0;
  CK_ATTRIBUTE wanted[] = { { CKA_LABEL, (void *)label, strlen(label) }, { CKA_CLASS, &class, sizeof class } };
  CHECK(p11->C_FindObjectsInit(session, wanted, 2));
  CHECK(p11->C_FindObjects(session, &key, 1, &found));
  CHECK(p11->C_FindObjectsFinal(session));
  if (!found) { fprintf(stderr, "token-loop: no key %s\n", label); exit(4); }
  return key;
}

static void *work(void *count) {
  CK_SESSION_HANDLE session = open_session();
  for (double end = now() + seconds; now() < end; ++*(long *)count) release(session);
  CHECK(p11->C_CloseSession(session));
  return NULL;
}

int main(int argc, char **argv) {
  if (argc < 9 || argc > 10) return fprintf(stderr, "usage: token-loop MODULE LABEL KEK-LABEL BLOB MODULUS SECONDS THREADS rewrap|release [KWP] < PIN\n"), 2;
  char pin[256];
  ssize_t pin_length = read(0, pin, sizeof pin);
  blob_length = read_file(argv[4], blob);
  modulus_length = read_file(argv[5], modulus);
  seconds = atof(argv[6]);
  int threads = atoi(argv[7]);
  if (pin_length < 1 || threads < 1 || threads > 64) return fprintf(stderr, "token-loop: a PIN and 1 to 64 threads\n"), 2;
  if (argc == 10) kwp.mechanism = strtoul(argv[9], NULL, 0);

  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CK_C_GetFunctionList list = library ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
  if (!list) return fprintf(stderr, "token-loop: %s\n", dlerror()), 3;
  CHECK(list(&p11));
  CK_C_INITIALIZE_ARGS locking = { .flags = CKF_OS_LOCKING_OK };
  CHECK(p11->C_Initialize(&locking));

  CK_SLOT_ID slots[64];
  CK_ULONG slot_count = 64, found = 0;
  char label[32];
  memset(label, ' ', sizeof label);
  memcpy(label, argv[2], strnlen(argv[2], sizeof label));
  CHECK(p11->C_GetSlotList(CK_TRUE, slots, &slot_count));
  for (CK_ULONG i = 0; i < slot_count; i++) {
    CK_TOKEN_INFO info;
    CHECK(p11->C_GetTokenInfo(slots[i], &info));
    if (memcmp(info.label, label, sizeof label) == 0) slot = slots[i], found = 1;
  }
  if (!found) return fprintf(stderr, "token-loop: no token %s\n", argv[2]), 4;

  CK_SESSION_HANDLE session = open_session();
  CHECK(p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)pin, (CK_ULONG)pin_length));
  kek = find(session, argv[3], CKO_SECRET_KEY);
  if (strcmp(argv[8], "release") == 0) {
    records = find(session, "ekms/records", CKO_SECRET_KEY);
    signer = find(session, "ekms/sign/delivery", CKO_PRIVATE_KEY);
  }

  pthread_t workers[64];
  long counts[64][8] = { { 0 } }, total = 0; /* each on a cache line of its own */
  double start = now();
  for (int i = 0; i < threads; i++) pthread_create(&workers[i], NULL, work, counts[i]);
  for (int i = 0; i < threads; i++) pthread_join(workers[i], NULL);
  double took = now() - start;
  for (int i = 0; i < threads; i++) total += counts[i][0];
  printf("threads=%d seconds=%.3f releases=%ld rate=%.1f\n", threads, took, total, (double)total / took);
  CHECK(p11->C_Finalize(NULL_PTR));
  return 0;
}
