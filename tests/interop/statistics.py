"""Reads SIPp's statistics file: every call done, none failed, no message out of place."""
import csv
import sys

path, calls = sys.argv[1], int(sys.argv[2])
with open(path, newline="") as file:
    last = list(csv.DictReader(file, delimiter=";"))[-1]
bad = {
    name: last[name]
    for name in ("FailedCall(C)", "FailedUnexpectedMessage(C)", "FailedMaxUDPRetrans(C)", "DeadCallMsgs(C)", "OutOfCallMsgs(C)")
    if int(last[name] or 0) != 0
}
if bad or int(last["SuccessfulCall(C)"]) != calls:
    sys.exit(f"{last['SuccessfulCall(C)']} of {calls} calls; {bad}")
