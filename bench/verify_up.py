#!/usr/bin/env python3
"""Checks a kept cluster from the outside, without any of the product's code.

    python3 bench/verify_up.py FOLDER [--csv FILE]

FOLDER is what `matrixai up --data FOLDER --exit` left (or its parts: receipt.json, model.safetensors and export/, the
last also made by `matrixai audit export`). It needs numpy and safetensors. It recomputes

- the cluster id from genesis, and every signature in the log (ed25519 after RFC 8032, in plain Python);
- every account's balance from its movements, and that nothing was made or lost;
- the job's escrow, its leaf chain and Merkle root, and that each delta was signed by the machine that is paid for it;
- the model's hash and its accuracy on the validation rows.

It prints one line a check and ends with status 1 at the first that fails.
"""

import argparse
import gzip
import hashlib
import json
import pathlib
import sys

import numpy
from safetensors.numpy import load_file


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def check(holds, what):
    print(("ok    " if holds else "WRONG ") + what)
    if not holds:
        sys.exit(1)


# --- ed25519 (RFC 8032, section 5.1), extended coordinates -----------------------------------------------------------

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    left = (a[1] - a[0]) * (b[1] - b[0]) % P
    right = (a[1] + a[0]) * (b[1] + b[0]) % P
    cross = 2 * a[3] * b[3] * D % P
    double = 2 * a[2] * b[2] % P
    e, f, g, h = right - left, double - cross, double + cross, right + left
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
BASE_POWERS = []
_point = BASE
for _ in range(256):
    BASE_POWERS.append(_point)
    _point = add(_point, _point)


def multiply_base(scalar):
    result, bit = (0, 1, 1, 0), 0
    while scalar:
        if scalar & 1:
            result = add(result, BASE_POWERS[bit])
        scalar, bit = scalar >> 1, bit + 1
    return result


def signature_holds(key, message, signature):
    point, r = decompress(key), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if point is None or r is None or s >= Q:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % Q
    left, right = multiply_base(s), add(r, multiply(challenge, point))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- protobuf, as far as the log needs it ---------------------------------------------------------------------------


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    """Field number -> list of values (ints or bytes) of one message."""
    found, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
        elif tag & 7 == 2:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {tag & 7} does not occur in the log")
        found.setdefault(tag >> 3, []).append(value)
    return found


def first(message, number, default=b""):
    return message.get(number, [default])[0]


# --- the checks -----------------------------------------------------------------------------------------------------


def signed_bytes(envelope):
    method = first(envelope, 3)
    return b"".join(
        [
            b"MatrixAI/envelope/v1\0",
            first(envelope, 1),
            first(envelope, 2),
            len(method).to_bytes(4, "little"),
            method,
            first(envelope, 4),
            first(envelope, 5, 0).to_bytes(8, "little"),
            first(envelope, 6),
        ]
    )


def check_log(export, cluster_id):
    """Checks every envelope; answers the accepted-looking TaskDone deltas: (job, round, v, delta) -> machine keys."""
    entries = envelopes = 0
    reported, previous, now = {}, 0, 0
    for line in (export / "log.jsonl").open():
        entry = json.loads(line)
        if entry["index"] <= previous:
            check(False, f"log index {entry['index']} follows {previous}")
        previous = entry["index"]
        entries += 1
        message = fields(bytes.fromhex(entry["entry"]))
        if first(message, 1, now) < now:
            check(False, f"entry {previous} is stamped before its predecessor")
        now = first(message, 1, now)
        for raw in message.get(3, []):
            envelope = fields(raw)
            envelopes += 1
            key = first(envelope, 2)
            if first(envelope, 1) != cluster_id:
                check(False, f"entry {previous} holds an envelope of another cluster")
            if not signature_holds(key, signed_bytes(envelope), first(envelope, 7)):
                check(False, f"entry {previous} holds an envelope that its key did not sign")
            for command in fields(first(envelope, 6)).get(1, []):
                done = fields(command).get(13)
                if done:
                    task = fields(done[0])
                    name = (first(task, 1), first(task, 2, 0), first(task, 3, 0), first(task, 5))
                    reported.setdefault(name, set()).add(key)
    check(envelopes > 0, f"{envelopes} envelopes in {entries} entries are each signed by their key")
    return reported


def check_money(export):
    accounts = json.loads((export / "accounts.json").read_text())
    movements = json.loads((export / "movements.json").read_text())
    movements = [row for row in movements if row["index"] <= accounts["index"]]
    movements.sort(key=lambda row: row["sequence"])
    running = {}
    for row in movements:
        balance, held = running.get(row["account"], (0, 0))
        balance, held = balance + int(row["balance_change"]), held + int(row["held_change"])
        if (balance, held) != (int(row["balance"]), int(row["held"])) or held < 0:
            check(False, f"movement {row['sequence']} does not add up")
        running[row["account"]] = (balance, held)
    total = 0
    for account in accounts["accounts"]:
        balance, held = int(account["balance"]), int(account["held"])
        total += balance + held
        if running.get(account["account"], (0, 0)) != (balance, held):
            check(False, f"account {account['account']} is not the sum of its movements")
    check(len(movements) > 0, f"{len(movements)} movements add up to every account's balance and hold")
    check(total == int(accounts["minted"]) - int(accounts["burned"]), f"minted - burned = the sum of all accounts = {total}")
    return movements


def minor(text):
    whole, _, fraction = text.partition(".")
    return int(whole) * 10**9 + int((fraction + "0" * 9)[:9])


def check_escrow(job, movements):
    escrow = {name: minor(value) for name, value in job["escrow"].items()}
    check(escrow["held"] == escrow["paid"] + escrow["fees"] + escrow["refunded"], "held = paid + fees + refunded")
    paid = sum(minor(share["paid"]) for share in job["shares"])
    check(paid == escrow["paid"], "the shares' pay is what was paid")
    received = sum(
        int(row["balance_change"])
        for row in movements
        if row["job"] == job["job"] and row["cause"] in ("pay_training", "pay_verification") and int(row["balance_change"]) > 0
    )
    check(received == escrow["paid"], "what was paid arrived in the trainers' accounts")


def merkle(leaves):
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01", merkle(leaves[:split]), merkle(leaves[split:]))


def check_chain(job, reported):
    previous, leaves, signed = bytes(32), [], 0
    for number, row in enumerate(job["chain"]):
        if row["round"] != number:
            check(False, f"the chain lists round {row['round']} at place {number}")
        deltas = [bytes.fromhex(text) for text in row["deltas"]]
        keys = [bytes.fromhex(text) for text in row["machine_keys"]]
        for v, (delta, key) in enumerate(zip(deltas, keys, strict=True)):
            if key not in reported.get((bytes.fromhex(job["job"]), number - 1, v, delta), ()):
                check(False, f"round {number - 1}, virtual worker {v}: no signed report of this delta in the log")
            signed += 1
        pairs = [part for pair in zip(deltas, keys) for part in pair]
        optimiser = sha256(b"MatrixAI/PoT/opt/v1", bytes.fromhex(row["momentum"]), *pairs)
        step = number * job["spec"]["steps_per_round"]
        previous = sha256(
            b"\x00ckpt", number.to_bytes(8, "little"), step.to_bytes(8, "little"), bytes.fromhex(row["weights"]), optimiser, previous
        )
        if row["leaf"] and row["leaf"] != previous.hex():
            check(False, f"leaf {number} differs")
        leaves.append(previous)
    check(signed == job["spec"]["rounds"] * job["spec"]["virtual_workers"], f"{signed} deltas were each signed by the machine named")
    check(merkle(leaves).hex() == job["proof"]["root"], f"{len(leaves)} leaves give the proof's root")


def rows_of(path):
    data = path.read_bytes()
    text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    table = numpy.array([[int(cell) for cell in line.split(",")] for line in text.decode().split()])
    return sha256(data), table


def check_model(folder, job, csv):
    spec = job["spec"]
    tensors = load_file(str(folder / "model.safetensors"))
    widths = [spec["features"], *spec["hidden"], spec["classes"]]
    layers = [(tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(len(widths) - 1)]
    raw = b"".join(part.astype("<f4").tobytes() for layer in layers for part in layer)
    check(sha256(raw).hex() == job["chain"][-1]["weights"], "the model is the last checkpoint of the chain")
    data_hash, table = rows_of(csv)
    check(data_hash.hex() == spec["dataset"], f"{csv.name} is the data set of the job")
    every = spec["validate_every"]
    validation = table[every - 1 :: every]
    values = (validation[:, :-1] / spec["feature_scale"]).astype(numpy.float32)
    for number, (weight, bias) in enumerate(layers):
        values = values @ weight.T + bias
        if number + 1 < len(layers):
            values = numpy.maximum(values, 0)
    accuracy = float((values.argmax(axis=1) == validation[:, -1]).mean())
    claimed = job["accuracy"]["last"]
    # Sums in another order can move a row that stands on the edge between two classes.
    check(abs(accuracy - claimed) <= 1.5 / len(validation), f"accuracy {accuracy:.4f} on {len(validation)} rows (claimed {claimed:.4f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--csv", type=pathlib.Path, default=here.parent / "deploy" / "examples" / "digits.csv.gz")
    args = parser.parse_args()
    export = args.folder / "export"
    receipt = json.loads((args.folder / "receipt.json").read_text())
    job = next((job for job in json.loads((export / "jobs.json").read_text()) if job["job"] == receipt["job"]), None)
    check(job is not None, f"job {receipt['job']} is in the export")
    check(receipt["state"] == job["state"] == "settled" and receipt["proof"]["verdict"] == "accepted", "settled, proof accepted")
    for part in ("escrow", "accuracy", "proof", "shares"):
        same = receipt[part] == job[part] if part != "shares" else [s["paid"] for s in receipt[part]] == [s["paid"] for s in job[part]]
        check(same, f"receipt and cluster agree on {part}")
    cluster_id = sha256(b"MatrixAI/genesis/v1", (export / "genesis.bin").read_bytes())
    reported = check_log(export, cluster_id)
    movements = check_money(export)
    check_escrow(job, movements)
    check_chain(job, reported)
    check_model(args.folder, job, args.csv)
    roots = {(digest["index"], digest["root"]) for digest in receipt["digest"]}
    check(len(roots) == 1 and len(receipt["digest"]) >= 3, "three coordinators attested the same state at one entry")
    print("everything agrees")


if __name__ == "__main__":
    main()
