/*
 * ekms-kek MODULE TOKEN-LABEL KEK-LABEL                              standard input: PIN
 * ekms-kek MODULE TOKEN-LABEL KEK-LABEL backup KWP OAEP-HASH MGF     standard input: PIN, modulus of the custody key
 * ekms-kek MODULE TOKEN-LABEL KEK-LABEL restore KWP OAEP-HASH MGF    standard input: PIN, ceremony key, wrapped custody key, wrapped KEK
 *
 * Makes the key-encryption key with CKA_UNWRAP_TEMPLATE, so that whatever it unwraps is a private, sensitive session key:
 * pkcs11js cannot pass an attribute that holds attributes. `backup` wraps it for the custody key (RSA-OAEP, exponent 65537) before it takes
 * service as a key that never leaves, and prints that in hexadecimal; `restore` takes it back (docs/formats/custody-package.md).
 * Secrets come on standard input, a line each, all but the PIN in hexadecimal; never as arguments. Numbers are the profile's, decimal.
 * Exit: 0 made · 2 usage or input · 3 module · 4 token not found · 5 PIN refused · 6 a KEK of that label is there · 7 refused by the token.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pkcs11/pkcs11.h>

#ifndef CKA_COPYABLE
#define CKA_COPYABLE 0x00000171UL
#endif

static CK_FUNCTION_LIST_PTR p11;

static int fail(int status, const char *what, CK_RV rv) {
  if (rv) fprintf(stderr, "ekms-kek: %s (0x%lx)\n", what, (unsigned long)rv);
  else fprintf(stderr, "ekms-kek: %s\n", what);
  return status;
}

/* Token labels are 32 bytes, padded with blanks. */
static CK_RV find_slot(const char *label, CK_SLOT_ID *found) {
  CK_SLOT_ID slots[64];
  CK_ULONG count = 64;
  CK_RV rv = p11->C_GetSlotList(CK_TRUE, slots, &count);
  char padded[32];
  memset(padded, ' ', sizeof padded);
  memcpy(padded, label, strlen(label) < 32 ? strlen(label) : 32);
  for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
    CK_TOKEN_INFO info;
    if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && (info.flags & CKF_TOKEN_INITIALIZED) && memcmp(info.label, padded, 32) == 0) {
      *found = slots[i];
      return CKR_OK;
    }
  }
  return rv == CKR_OK ? CKR_TOKEN_NOT_PRESENT : rv;
}

#define LINES 4
#define LINE 8192
static char input[LINES * LINE];
static char *line[LINES];

/* One value a line; 0 when there are not that many, or one of them is empty. */
static int read_lines(int wanted) {
  size_t length = 0;
  ssize_t got;
  while (length < sizeof input - 1 && (got = read(0, input + length, sizeof input - 1 - length)) > 0) length += (size_t)got;
  input[length] = 0;
  char *at = input;
  for (int i = 0; i < wanted; i++) {
    line[i] = at;
    char *end = strchr(at, '\n');
    if (end) *end = 0;
    else if (i < wanted - 1) return 0;
    if (!*line[i]) return 0;
    at = end ? end + 1 : at + strlen(at);
  }
  return 1;
}

/* Hexadecimal to bytes, in place. */
static CK_ULONG bytes_of(char *hex) {
  CK_ULONG n = 0;
  unsigned byte;
  while (hex[2 * n] && hex[2 * n + 1] && sscanf(hex + 2 * n, "%2x", &byte) == 1) hex[n++] = (char)byte;
  return n;
}

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS secret = CKO_SECRET_KEY, private_key = CKO_PRIVATE_KEY, public_key = CKO_PUBLIC_KEY;
static CK_KEY_TYPE aes = CKK_AES, rsa = CKK_RSA;
static CK_ULONG aes_length = 32;
static CK_MECHANISM generate = { CKM_AES_KEY_GEN, NULL_PTR, 0 };
static CK_MECHANISM kwp, oaep;
static CK_RSA_PKCS_OAEP_PARAMS oaep_parameters = { 0, 0, CKZ_DATA_SPECIFIED, NULL_PTR, 0 };

static CK_ATTRIBUTE unwraps_only[] = {
  { CKA_CLASS, &private_key, sizeof private_key }, { CKA_TOKEN, &no, sizeof no },
  { CKA_PRIVATE, &yes, sizeof yes },               { CKA_SENSITIVE, &yes, sizeof yes },
};
/*
 * The KEK in service. First its length, which an unwrapped key may not name, then label and id, filled in by main. CKA_MODIFIABLE comes last:
 * SoftHSM goes through a template in order and changes nothing more after it.
 */
static CK_ATTRIBUTE resident[] = {
  { CKA_VALUE_LEN, &aes_length, sizeof aes_length },
  { CKA_LABEL, NULL_PTR, 0 },             { CKA_ID, NULL_PTR, 0 },
  { CKA_CLASS, &secret, sizeof secret },  { CKA_KEY_TYPE, &aes, sizeof aes },
  { CKA_TOKEN, &yes, sizeof yes },        { CKA_PRIVATE, &yes, sizeof yes },
  { CKA_SENSITIVE, &yes, sizeof yes },    { CKA_EXTRACTABLE, &no, sizeof no },
  { CKA_WRAP, &yes, sizeof yes },         { CKA_UNWRAP, &yes, sizeof yes },
  { CKA_ENCRYPT, &no, sizeof no },        { CKA_DECRYPT, &no, sizeof no },
  { CKA_SIGN, &no, sizeof no },           { CKA_VERIFY, &no, sizeof no },
  { CKA_DERIVE, &no, sizeof no },         { CKA_UNWRAP_TEMPLATE, unwraps_only, sizeof unwraps_only },
  /* Else who holds the PIN turns CKA_DECRYPT on, in the key or in a copy of it, and opens every blob by hand. */
  { CKA_COPYABLE, &no, sizeof no },       { CKA_MODIFIABLE, &no, sizeof no },
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static CK_RV make_kek(CK_SESSION_HANDLE session) {
  CK_OBJECT_HANDLE handle;
  return p11->C_GenerateKey(session, &generate, resident, COUNT(resident), &handle);
}

/* Session keys that pass: the KEK before it takes service, and the key that carries it over. Both end with this process. */
static CK_ATTRIBUTE passing[] = {
  { CKA_CLASS, &secret, sizeof secret },   { CKA_KEY_TYPE, &aes, sizeof aes },     { CKA_TOKEN, &no, sizeof no },
  { CKA_PRIVATE, &yes, sizeof yes },       { CKA_SENSITIVE, &yes, sizeof yes },    { CKA_EXTRACTABLE, &yes, sizeof yes },
  { CKA_WRAP, &yes, sizeof yes },          { CKA_UNWRAP, &yes, sizeof yes },       { CKA_VALUE_LEN, &aes_length, sizeof aes_length },
};

static CK_RV make_kek_with_backup(CK_SESSION_HANDLE session, char *modulus, CK_ULONG modulus_length) {
  CK_BYTE exponent[] = { 1, 0, 1 };
  CK_ATTRIBUTE custody[] = {
    { CKA_CLASS, &public_key, sizeof public_key }, { CKA_KEY_TYPE, &rsa, sizeof rsa },   { CKA_TOKEN, &no, sizeof no },
    { CKA_WRAP, &yes, sizeof yes }, { CKA_MODULUS, modulus, modulus_length },
    { CKA_PUBLIC_EXPONENT, exponent, sizeof exponent },
  };
  CK_OBJECT_HANDLE kek, carrier, recipient, handle;
  CK_BYTE backup[1024], carried[128];
  CK_ULONG backup_length = sizeof backup, carried_length = sizeof carried;
  CK_RV rv;
  if ((rv = p11->C_GenerateKey(session, &generate, passing, COUNT(passing), &kek))) return rv;
  if ((rv = p11->C_GenerateKey(session, &generate, passing, COUNT(passing), &carrier))) return rv;
  if ((rv = p11->C_CreateObject(session, custody, COUNT(custody), &recipient))) return rv;
  if ((rv = p11->C_WrapKey(session, &oaep, recipient, kek, backup, &backup_length))) return rv;
  if ((rv = p11->C_WrapKey(session, &kwp, carrier, kek, carried, &carried_length))) return rv;
  rv = p11->C_UnwrapKey(session, &kwp, carrier, carried, carried_length, resident + 1, COUNT(resident) - 1, &handle);
  if (!rv) for (CK_ULONG i = 0; i < backup_length; i++) printf("%02x", backup[i]);
  return rv;
}

static CK_RV restore_kek(CK_SESSION_HANDLE session, char *ceremony, CK_ULONG ceremony_length, char *custody, CK_ULONG custody_length, char *wrapped, CK_ULONG wrapped_length) {
  CK_ATTRIBUTE opens[] = {
    { CKA_CLASS, &secret, sizeof secret }, { CKA_KEY_TYPE, &aes, sizeof aes },  { CKA_TOKEN, &no, sizeof no },
    { CKA_PRIVATE, &yes, sizeof yes },     { CKA_SENSITIVE, &yes, sizeof yes }, { CKA_UNWRAP, &yes, sizeof yes },
    { CKA_VALUE, ceremony, ceremony_length },
  };
  CK_ATTRIBUTE unwraps[] = {
    { CKA_CLASS, &private_key, sizeof private_key }, { CKA_KEY_TYPE, &rsa, sizeof rsa },   { CKA_TOKEN, &no, sizeof no },
    { CKA_PRIVATE, &yes, sizeof yes },               { CKA_SENSITIVE, &yes, sizeof yes }, { CKA_UNWRAP, &yes, sizeof yes },
  };
  CK_OBJECT_HANDLE opener, recipient, handle;
  CK_RV rv;
  if ((rv = p11->C_CreateObject(session, opens, COUNT(opens), &opener))) return rv;
  if ((rv = p11->C_UnwrapKey(session, &kwp, opener, (CK_BYTE_PTR)custody, custody_length, unwraps, COUNT(unwraps), &recipient))) return rv;
  return p11->C_UnwrapKey(session, &oaep, recipient, (CK_BYTE_PTR)wrapped, wrapped_length, resident + 1, COUNT(resident) - 1, &handle);
}

int main(int argc, char **argv) {
  int backup = argc == 8 && strcmp(argv[4], "backup") == 0, restore = argc == 8 && strcmp(argv[4], "restore") == 0;
  if (argc != 4 && !backup && !restore) return fail(2, "usage: ekms-kek MODULE TOKEN-LABEL KEK-LABEL [backup|restore KWP OAEP-HASH MGF]", 0);
  if (!read_lines(restore ? 4 : backup ? 2 : 1)) return fail(2, "standard input does not have the lines that this needs", 0);
  char *pin = line[0];
  size_t pin_length = strlen(pin);
  if (pin_length > 256) return fail(2, "the PIN on standard input has 1 to 256 bytes", 0);
  CK_ULONG length[LINES] = { 0 };
  for (int i = 1; i < LINES && line[i]; i++) length[i] = bytes_of(line[i]);
  if (argc == 8) {
    kwp.mechanism = strtoul(argv[5], NULL, 10);
    oaep_parameters.hashAlg = strtoul(argv[6], NULL, 10);
    oaep_parameters.mgf = strtoul(argv[7], NULL, 10);
    oaep = (CK_MECHANISM){ CKM_RSA_PKCS_OAEP, &oaep_parameters, sizeof oaep_parameters };
  }
  for (int i = 1; i <= 2; i++) {
    resident[i].pValue = argv[3];
    resident[i].ulValueLen = strlen(argv[3]);
  }

  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CK_C_GetFunctionList list = library ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
  if (!list || list(&p11) != CKR_OK) return fail(3, "the PKCS#11 module does not load", 0);
  CK_RV rv = p11->C_Initialize(NULL_PTR);
  if (rv) return fail(3, "the PKCS#11 module does not start", rv);

  CK_SLOT_ID slot;
  CK_SESSION_HANDLE session;
  if ((rv = find_slot(argv[2], &slot))) return fail(4, "no token of that label", rv);
  if ((rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL_PTR, NULL_PTR, &session))) return fail(4, "no session", rv);
  rv = p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)pin, (CK_ULONG)pin_length);
  explicit_bzero(pin, pin_length);
  if (rv) return fail(5, "the token refused the PIN", rv);

  CK_ATTRIBUTE same_label = { CKA_LABEL, argv[3], strlen(argv[3]) };
  CK_OBJECT_HANDLE existing;
  CK_ULONG count = 0;
  if ((rv = p11->C_FindObjectsInit(session, &same_label, 1)) || (rv = p11->C_FindObjects(session, &existing, 1, &count)))
    return fail(7, "the token does not list its objects", rv);
  p11->C_FindObjectsFinal(session);
  if (count) return fail(6, "a key of that label is there already", 0);

  if (backup) rv = make_kek_with_backup(session, line[1], length[1]);
  else if (restore) rv = restore_kek(session, line[1], length[1], line[2], length[2], line[3], length[3]);
  else rv = make_kek(session);
  explicit_bzero(input, sizeof input);
  if (rv) return fail(7, restore ? "the token did not take the KEK back" : "the token refused a key with CKA_UNWRAP_TEMPLATE", rv);
  p11->C_Finalize(NULL_PTR);
  return 0;
}
