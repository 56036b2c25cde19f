/* SoftHSM with a few of its calls under a test's control: logins are counted in $SHIM_FOLDER/logins, and while $SHIM_FOLDER/hang exists
 * C_WrapKey does not come back. Built by the test that uses it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pkcs11/pkcs11.h>

static CK_FUNCTION_LIST ours;
static CK_FUNCTION_LIST_PTR theirs;

static const char *in_folder(const char *name) {
  static __thread char path[4096];
  snprintf(path, sizeof path, "%s/%s", getenv("SHIM_FOLDER"), name);
  return path;
}

static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE who, CK_UTF8CHAR_PTR pin, CK_ULONG length) {
  int fd = open(in_folder("logins"), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (write(fd, ".", 1) != 1) abort();
  close(fd);
  return theirs->C_Login(session, who, pin, length);
}

static CK_RV wrap_key(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE under, CK_OBJECT_HANDLE key, CK_BYTE_PTR out, CK_ULONG_PTR length) {
  while (access(in_folder("hang"), F_OK) == 0) usleep(10000);
  return theirs->C_WrapKey(session, mechanism, under, key, out, length);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
  if (!theirs) {
    void *library = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = library ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
    if (!get || get(&theirs) != CKR_OK) return CKR_GENERAL_ERROR;
    ours = *theirs;
    ours.C_Login = login;
    ours.C_WrapKey = wrap_key;
  }
  *list = &ours;
  return CKR_OK;
}
