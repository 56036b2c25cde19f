#!/usr/bin/env python3
"""Reads an exported audit log and says whether it is whole: `read_audit_log.py FOLDER KEYFILE [AUTHORITIES]`.

Whole bundles from the first on may be gone where an entry further on says so; their hashes stand for them. With AUTHORITIES (PEM) the openssl program
verifies each time stamp over the head that it names.

Written from RFC 9162 section 2.1 and from C2SP tlog-tiles, tlog-checkpoint and signed-note alone. It shares nothing with EKMS. Hashes are Python's
hashlib; the signature is verified by the openssl program. Ed25519 keys only.
"""
import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile


def leaf(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree(hashes):
    """MTH of RFC 9162 section 2.1.1 over leaf hashes."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node(tree(hashes[:split]), tree(hashes[split:]))


def name(index, width):
    groups = ["%03d" % (index % 1000)]
    while index >= 1000:
        index //= 1000
        groups.insert(0, "x%03d" % (index % 1000))
    return "/".join(groups) + ("" if width == 256 else ".p/%d" % width)


def read(folder, path):
    with open(os.path.join(folder, path), "rb") as file:
        return file.read()


def verify_signature(public_key, message, signature):
    # RFC 8410: the SubjectPublicKeyInfo of an Ed25519 key.
    spki = bytes.fromhex("302a300506032b6570032100") + public_key
    with tempfile.TemporaryDirectory() as scratch:
        for part, content in (("key", spki), ("message", message), ("signature", signature)):
            with open(os.path.join(scratch, part), "wb") as file:
                file.write(content)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key", "-rawin", "-in", "message", "-sigfile", "signature"]
        return subprocess.run(command, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def checkpoint(folder, vkey):
    key_name, key_id, encoded = vkey.split("+", 2)
    key = base64.b64decode(encoded, validate=True)
    if key[0] != 1 or len(key) != 33:
        sys.exit("not an Ed25519 key")
    if hashlib.sha256(key_name.encode() + b"\n" + key).hexdigest()[:8] != key_id:
        sys.exit("the key's id is not its own")
    text, signatures = read(folder, "checkpoint").rsplit(b"\n\n", 1)
    text += b"\n"
    for line in signatures.decode().splitlines():
        dash, signer, value = line.split(" ")
        raw = base64.b64decode(value, validate=True)
        if dash == "\u2014" and signer == key_name and raw[:4].hex() == key_id and verify_signature(key[1:], text, raw[4:]):
            origin, size, root = text.decode().splitlines()[:3]
            if origin != key_name:
                sys.exit("a checkpoint of another log")
            return int(size), base64.b64decode(root, validate=True)
    sys.exit("no signature by this key holds")


def bundle(data):
    entries = []
    while data:
        length = int.from_bytes(data[:2], "big")
        if len(data) < 2 + length:
            sys.exit("a bundle ends inside an entry")
        entries.append(data[2:2 + length])
        data = data[2 + length:]
    return entries


def pruned_until(entry):
    said = json.loads(entry)
    return int(said["facts"]["until"]) if said["action"] == "audit.prune" and said["outcome"] == "done" else 0


def verify_stamp(folder, size, authorities):
    """RFC 3161, over the three lines of the head of this size."""
    named = os.path.join(folder, "checkpoints/%d" % size)
    text, _ = read(folder, "checkpoints/%d" % size if os.path.exists(named) else "checkpoint").rsplit(b"\n\n", 1)
    if int(text.split(b"\n")[1]) != size:
        sys.exit("a time stamp is over a head that is not there")
    digest = hashlib.sha256(text + b"\n").hexdigest()
    token = os.path.join(folder, "timestamps/%d" % size)
    command = ["openssl", "ts", "-verify", "-digest", digest, "-in", token, "-token_in", "-CAfile", authorities]
    if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        sys.exit("the time stamp of %d entries does not hold" % size)


def main(folder, key_file, authorities=None):
    with open(key_file) as file:
        size, root = checkpoint(folder, file.read().strip())
    leaves = []
    level = []
    pruned = allowed = 0
    for first in range(0, size, 256):
        width = min(256, size - first)
        path = "tile/entries/" + name(first // 256, width)
        if width == 256 and pruned == first and not os.path.exists(os.path.join(folder, path)):
            tile = read(folder, "tile/0/" + name(first // 256, width))
            hashes = [tile[at:at + 32] for at in range(0, len(tile), 32)]
            pruned += width
        else:
            entries = bundle(read(folder, path))
            allowed = max([allowed] + [pruned_until(entry) for entry in entries])
            hashes = [leaf(entry) for entry in entries]
        if len(hashes) != width or b"".join(hashes) != read(folder, "tile/0/" + name(first // 256, width)):
            sys.exit("tile 0/%d is not what its entries hash to" % (first // 256))
        leaves += hashes
        if width == 256:
            level.append(tree(hashes))
    height = 1
    while level:
        above = []
        for first in range(0, len(level), 256):
            hashes = level[first:first + 256]
            if b"".join(hashes) != read(folder, "tile/%d/" % height + name(first // 256, len(hashes))):
                sys.exit("tile %d/%d is not what those below hash to" % (height, first // 256))
            if len(hashes) == 256:
                above.append(tree(hashes))
        level, height = above, height + 1
    if tree(leaves) != root:
        sys.exit("the entries are not those that were signed")
    if pruned > allowed:
        sys.exit("entry %d is not there, and no entry says that it was pruned" % allowed)
    stamps = sorted(int(one) for one in os.listdir(os.path.join(folder, "timestamps"))) if authorities else []
    for one in stamps:
        verify_stamp(folder, one, authorities)
    print("whole: %d entries" % size + (", of which those before %d were pruned" % pruned if pruned else "") + (", %d time stamps" % len(stamps) if stamps else ""))


main(*sys.argv[1:])
