/*
 * ekms-kek MODULE TOKEN-LABEL KEK-LABEL < PIN
 *
 * Makes the key-encryption key with CKA_UNWRAP_TEMPLATE, so that whatever it unwraps is a private, sensitive session key:
 * pkcs11js cannot pass an attribute that holds attributes. The PIN comes on standard input, never as an argument.
 * Exit: 0 made · 2 usage or PIN input · 3 module · 4 token not found · 5 PIN refused · 6 a KEK of that label is there · 7 refused by the token.
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

static CK_RV make_kek(CK_SESSION_HANDLE session, char *label) {
  CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
  CK_OBJECT_CLASS secret = CKO_SECRET_KEY, private_key = CKO_PRIVATE_KEY;
  CK_KEY_TYPE aes = CKK_AES;
  CK_ULONG length = 32;
  CK_MECHANISM generate = { CKM_AES_KEY_GEN, NULL_PTR, 0 };
  CK_ATTRIBUTE unwraps_only[] = {
    { CKA_CLASS, &private_key, sizeof private_key }, { CKA_TOKEN, &no, sizeof no },
    { CKA_PRIVATE, &yes, sizeof yes },               { CKA_SENSITIVE, &yes, sizeof yes },
  };
  CK_ATTRIBUTE kek[] = {
    { CKA_CLASS, &secret, sizeof secret },  { CKA_KEY_TYPE, &aes, sizeof aes },
    { CKA_VALUE_LEN, &length, sizeof length }, { CKA_LABEL, label, strlen(label) },
    { CKA_ID, label, strlen(label) },       { CKA_TOKEN, &yes, sizeof yes },
    { CKA_PRIVATE, &yes, sizeof yes },      { CKA_SENSITIVE, &yes, sizeof yes },
    { CKA_EXTRACTABLE, &no, sizeof no },    { CKA_WRAP, &yes, sizeof yes },
    { CKA_UNWRAP, &yes, sizeof yes },       { CKA_ENCRYPT, &no, sizeof no },
    { CKA_DECRYPT, &no, sizeof no },        { CKA_SIGN, &no, sizeof no },
    { CKA_VERIFY, &no, sizeof no },         { CKA_DERIVE, &no, sizeof no },
    /* Else who holds the PIN turns CKA_DECRYPT on, in the key or in a copy of it, and opens every blob by hand. */
    { CKA_MODIFIABLE, &no, sizeof no },     { CKA_COPYABLE, &no, sizeof no },
    { CKA_UNWRAP_TEMPLATE, unwraps_only, sizeof unwraps_only },
  };
  CK_OBJECT_HANDLE handle;
  return p11->C_GenerateKey(session, &generate, kek, sizeof kek / sizeof *kek, &handle);
}

int main(int argc, char **argv) {
  if (argc != 4) return fail(2, "usage: ekms-kek MODULE TOKEN-LABEL KEK-LABEL < PIN", 0);
  char pin[257];
  ssize_t length = 0, got;
  while (length < (ssize_t)sizeof pin && (got = read(0, pin + length, sizeof pin - length)) > 0) length += got;
  if (length < 1 || length == (ssize_t)sizeof pin) return fail(2, "the PIN on standard input has 1 to 256 bytes", 0);

  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CK_C_GetFunctionList list = library ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
  if (!list || list(&p11) != CKR_OK) return fail(3, "the PKCS#11 module does not load", 0);
  CK_RV rv = p11->C_Initialize(NULL_PTR);
  if (rv) return fail(3, "the PKCS#11 module does not start", rv);

  CK_SLOT_ID slot;
  CK_SESSION_HANDLE session;
  if ((rv = find_slot(argv[2], &slot))) return fail(4, "no token of that label", rv);
  if ((rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL_PTR, NULL_PTR, &session))) return fail(4, "no session", rv);
  rv = p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)pin, (CK_ULONG)length);
  explicit_bzero(pin, sizeof pin);
  if (rv) return fail(5, "the token refused the PIN", rv);

  CK_ATTRIBUTE same_label = { CKA_LABEL, argv[3], strlen(argv[3]) };
  CK_OBJECT_HANDLE existing;
  CK_ULONG count = 0;
  if ((rv = p11->C_FindObjectsInit(session, &same_label, 1)) || (rv = p11->C_FindObjects(session, &existing, 1, &count)))
    return fail(7, "the token does not list its objects", rv);
  p11->C_FindObjectsFinal(session);
  if (count) return fail(6, "a key of that label is there already", 0);

  if ((rv = make_kek(session, argv[3]))) return fail(7, "the token refused a key with CKA_UNWRAP_TEMPLATE", rv);
  p11->C_Finalize(NULL_PTR);
  return 0;
}
