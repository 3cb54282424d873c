"""A flow of tests/interop/scenarios as the SIPp scenarios of its roles.

A flow says who sends what and what must arrive, role by role in the order of time. Header lines that every message of a dialog has
are put in here, so that a file shows what its case is about:

  <request method="BYE">Name: value …</request>     optional: uri, branch, cseq, tag (of the To), contact (its user), routes, sdp="no"
  <response code="200">Name: value …</response>     optional: to="INVITE" where other messages came since (it was `kept`), sdp="no", via
  <body type="a/b">…</body>                         in either of them, which SIPp repeats over UDP unless repeat="no"
  <recv request="BYE">…</recv>                      optional: keep="true"
  <recv response="200">…</recv>                     to="CANCEL": the method in its CSeq; default: the last request's that left
  <ereg header="RAck:" regexp="…"/>                 in a recv: must match, or must not with absent="true"; as="x": kept as [$x]

All else is SIPp's own. An ending of endings.xml becomes a flow, with <notify event="…" state="…" answer="later">180 Ringing</notify>
for a NOTIFY about a REFER and its 200 (optional: cseq, the `type` of its body, the `code` that it gets; without text it has no body), and
<burst>…</burst> around requests that are written at once. `{{name}}` is a parameter of the case. The role `caller` calls, the others are called.
"""
import pathlib
import re
import xml.etree.ElementTree as Tree
from xml.sax.saxutils import escape, quoteattr

FOLDER = pathlib.Path(__file__).with_name("scenarios")
SDP = "v=0\no=- 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\nm=audio 6000 RTP/AVP 0"
ALLOW = "INVITE, ACK, BYE, CANCEL, REFER, NOTIFY, PRACK, UPDATE, INFO, MESSAGE"
# What a response to a request that was kept needs. Up to five Vias, wherever they stand; Record-Routes past referee alone.
KEPT = {"from": ("From:", 1), "to": ("To:", 1), "cseq": ("CSeq:", 1), "routes": ("Record-Route:", 1),
        "more": ("Record-Route:", 2)}
VIA, NO_VIA = (f"({first}[^[:cntrl:]]*[[:cntrl:]]+)" for first in ("Via: ", "[^V[:cntrl:]]"))
# CSeq numbers of referee's own requests to the caller, where they are challenged by nobody.
NUMBERS = {"refer": "1", "bye": "2"}
# Both parts of the call before an ending.
CALLS = ('<request method="INVITE"/><recv response="100"/><recv response="180"/><recv response="200"/>'
         '<request method="ACK"/>')
ANSWERS = '<recv request="INVITE"/><response code="180"/><response code="200"/><recv request="ACK"/>'
VIAS = VIA + f"{NO_VIA}*{VIA}?" * 4


def scenarios(name, parameters):
    """The roles of a flow, in order, with the text of their SIPp scenarios."""
    parameters = {**NUMBERS, **parameters}
    text = (FOLDER / f"{name}.xml").read_text()
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: escape(parameters[found[1]], {'"': "&quot;"}), text)
    flow = Tree.fromstring(text)
    return {element.tag: Role(element).scenario() for element in flow}


def ending(name, parameters):
    """The roles of a call that a carrier ends up with in this way."""
    parameters = {**NUMBERS, **parameters}
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: escape(parameters.get(found[1], ""), {'"': "&quot;"}), (FOLDER / "endings.xml").read_text())
    found = next(each for each in Tree.fromstring(text) if each.get("name") == name)
    carrier = CALLS + "".join(written(part) for each in found for part in parts(each))
    platform = ANSWERS
    if found.get("info"):
        carrier += '<request method="INFO"/><recv response="200"/>'
        platform += '<recv request="INFO"/><response code="200"/>'
    if bye := found.get("bye"):
        carrier += f'<recv request="BYE"><ereg header="CSeq:" regexp="^ {bye} BYE$"/></recv><response code="200"/>'
    platform += '<recv request="BYE"/><response code="200"/>'
    roles = {"caller": carrier, "callee": platform}
    return {tag: Role(Tree.fromstring(f"<{tag}>{text}</{tag}>")).scenario() for tag, text in roles.items()}


def parts(element):
    """The elements that one of an ending stands for."""
    if element.tag == "burst":
        burst = Tree.Element("burst")
        burst.extend(part for each in element for part in parts(each))
        return [burst]
    if element.tag != "notify":
        return [element]
    text = element.text or ""
    event, kind = element.get("event", "refer"), element.get("type", "message/sipfrag;version=2.0")
    state = element.get("state", "active;expires=60" if text.startswith("1") else "terminated;reason=noresource")
    cseq = f'cseq="{element.get("cseq")}"' if "cseq" in element.attrib else ""
    body = f'<body type="{kind}">SIP/2.0 {escape(text)}</body>' if text else ""
    answer = "" if element.get("answer") == "later" else f'<recv response="{element.get("code", "200")}"/>'
    return list(Tree.fromstring(f"""<parts><request method="NOTIFY" {cseq}>
        Event: {event}
        Subscription-State: {state}
        {body}
      </request>{answer}</parts>"""))


def written(element):
    return Tree.tostring(element, encoding="unicode").strip()


class Role:
    """One role as it is written: what of its dialog is known at each line."""

    def __init__(self, element):
        self.element, self.name, self.is_caller = element, element.tag, element.tag == "caller"
        self.in_dialog = False
        self.cseq = self.requests = 0
        self.invite = {}
        self.final = None
        # The method of the last request that left and that came, and whether that is the last message that came.
        self.sent = self.received = None
        self.is_last = False
        # Whether a request that came opened a dialog, so that the response puts a tag in.
        self.opening = {}
        self.variables = []

    def scenario(self):
        lines = []
        for element in self.element:
            write = {"request": self.request, "response": self.response, "recv": self.recv, "burst": self.burst}.get(element.tag)
            lines.append(write(element) if write else written(element))
        if self.variables:
            lines.append(f'<Reference variables="{",".join(dict.fromkeys(self.variables))}"/>')
        head = ['<?xml version="1.0" encoding="UTF-8"?>', f"<scenario name={quoteattr(self.name)}>"]
        return "\n".join([*head, *lines, "</scenario>\n"])

    # ---- what is sent ----

    def request(self, element):
        method = self.sent = element.get("method")
        self.requests += 1
        known = {"uri": "[$target]" if self.in_dialog else "sip:bob@[remote_ip]:[remote_port]", "dialog": self.in_dialog,
                 "branch": f"z9hG4bK-[pid]-{self.name}-{self.requests}"}
        is_of_refusal = method == "ACK" and self.final >= 300
        if method == "CANCEL" or is_of_refusal:
            # RFC 3261 §9.1, §17.1.1.3: hop by hop, as the INVITE was.
            known = dict(self.invite)
        elif method == "ACK":
            known["cseq"] = self.invite["cseq"]
        else:
            self.cseq = known["cseq"] = int(element.get("cseq", self.cseq + 1))
        if method == "INVITE":
            self.invite, self.final = known, None
        lines = [f"{method} {element.get('uri', known['uri'])} SIP/2.0",
                 f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={element.get('branch', known['branch'])}"]
        lines += [element.get("routes", "[routes]")] if known["dialog"] else []
        lines += ["Max-Forwards: 70", *self.identities(known["dialog"] or is_of_refusal, element.get("tag")),
                  "Call-ID: [call_id]", f"CSeq: {known['cseq']} {method}"]
        if method not in ("ACK", "BYE", "CANCEL", "PRACK"):
            lines.append(self.contact(element.get("contact", self.name)))
        lines += [f"Allow: {ALLOW}"] if method == "INVITE" else []
        return self.send(element, lines, method == "INVITE", method != "ACK")

    def burst(self, element):
        """Requests in one <send>. To SIPp all that follows the first one's header is a body, whose end it takes for the end of a line: so
        the last one needs one. And it takes responses only to methods that a <send> before has, be it one that is passed over."""
        sends = [self.request(each) for each in element]
        texts = [send.partition("[CDATA[\n")[2].partition("\n\n]]")[0] for send in sends]
        for i, text in enumerate(texts):
            head, _, body = text.partition("\n\n")
            # SIPp ends each line with CRLF.
            length = len(body) + 2 * body.count("\n") + 2
            texts[i] = f"{head.replace('[len]', str(length))}\n\n{body}" if body else head + "\n"
        return '<send next="written"><![CDATA[\n' + "\n".join(texts) + "\n\n]]></send>" + "".join(sends[1:]) + '<label id="written"/>'

    def identities(self, has_tag, tag):
        """From and To of a request."""
        if not self.is_caller:
            return [f"From:[$own];tag={self.name}", "To:[$peer]"]
        bob = "To: <sip:bob@example.com>"
        to = f"{bob};tag={tag}" if tag else "To:[$peer]" if has_tag else bob
        return ['From: "Alice" <sip:alice@example.com>;tag=caller', to]

    def contact(self, user):
        return f"Contact: <sip:{user}@[local_ip]:[local_port];transport=[transport]>"

    def response(self, element):
        code, to = int(element.get("code")), element.get("to", self.received)
        lines = [f"SIP/2.0 {code} {element.get('reason', 'Whatever')}"]
        opens = self.opening.get(to, False)
        tag = f";tag={self.name}" if opens and code > 100 else ""
        dialog = opens and to == "INVITE" and 100 < code < 300
        if to == self.received and self.is_last:
            lines += ["[last_Via:]", "[last_From:]", f"[last_To:]{tag}", "[last_CSeq:]"] + ["[last_Record-Route:]"] * dialog
        else:
            kept = {name: f"{header}[${to}_{name}]" for name, (header, _) in KEPT.items()}
            kept["to"] += tag
            kept["routes"] += f",[${to}_more]"
            del kept["more"]
            if not dialog:
                del kept["routes"]
            vias = "".join(f"[${to}_via{i}]" for i in range(5)) if "via" not in element.attrib else f"Via: {element.get('via')}\n"
            # Each of the Vias brings its line's end with it.
            lines += [vias + kept.pop("from"), *kept.values()]
        lines.append("Call-ID: [call_id]")
        if 100 < code < 300 and to in ("INVITE", "UPDATE", "REFER", "SUBSCRIBE"):
            lines.append(self.contact(self.name))
        self.in_dialog |= dialog
        is_final = to == "INVITE" and code >= 200
        return self.send(element, lines, is_final and code < 300, is_final)

    def send(self, element, lines, has_sdp, is_repeated):
        lines += [line.strip() for line in (element.text or "").splitlines() if line.strip()]
        body = element.find("body")
        if body is not None:
            lines += [f"Content-Type: {body.get('type')}", "Content-Length: [len]", "", body.text.strip()]
        elif has_sdp and element.get("sdp") != "no":
            lines += ["Content-Type: application/sdp", "Content-Length: [len]", "", SDP]
        else:
            lines.append("Content-Length: 0")
        repeat = ' retrans="500"' if is_repeated and element.get("repeat") != "no" else ""
        return f"<send{repeat}><![CDATA[\n" + "\n".join(lines) + "\n\n]]></send>"

    # ---- what must arrive ----

    def recv(self, element):
        attributes = dict(element.attrib)
        keep, to = attributes.pop("keep", None), attributes.pop("to", self.sent)
        actions = [self.check(each) if each.tag == "ereg" else written(each) for each in element]
        self.is_last = "request" in attributes
        if self.is_last:
            method = self.received = attributes["request"]
            self.opening[method] = not self.in_dialog and not self.is_caller
            if method == "CANCEL":
                self.opening[method] = self.opening["INVITE"]
            if self.opening[method] and method != "CANCEL":
                actions += [self.take("peer", "From:"), self.take("own", "To:")]
            if method == "INVITE":
                attributes["rrs"] = "true"
            if keep:
                actions += [self.take(f"{method}_{name}", *place) for name, place in KEPT.items()]
                vias = ",".join(f"{method}_via{i},between" for i in range(5)).removesuffix(",between")
                actions.append(self.ereg(f"all,{vias}", {"search_in": "msg", "regexp": VIAS}))
            shows_target = method in ("INVITE", "UPDATE")
        else:
            code = int(attributes["response"])
            actions.append(self.check(Tree.Element("ereg", header="CSeq:", regexp=f"^ *[0-9]+ {to}$")))
            shows_target = to in ("INVITE", "UPDATE") and 100 < code < 300
            if to == "INVITE" and code >= 200:
                self.final = code
            if to == "INVITE" and code > 100 and not self.invite["dialog"]:
                actions.append(self.take("peer", "To:"))
                if code < 300:
                    attributes["rrs"] = "true"
                    self.in_dialog = True
        if shows_target:
            actions.append(self.take("target", "Contact:", regexp="sips?:[^>]*"))
        text = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
        return f"<recv {text}><action>\n" + "\n".join(actions) + "\n</action></recv>"

    def check(self, ereg):
        attributes = dict(ereg.attrib)
        absent = attributes.pop("absent", None)
        attributes["check_it_inverse" if absent else "check_it"] = "true"
        return self.ereg(attributes.pop("as", f"check{len(self.variables)}"), attributes)

    def take(self, variable, header, occurrence=1, regexp=".*"):
        """Keeps a part of what arrived for a message to come."""
        return self.ereg(variable, {"header": header, "occurrence": str(occurrence), "regexp": regexp})

    def ereg(self, variable, attributes):
        self.variables += variable.split(",")
        attributes = {"search_in": "hdr", **attributes, "assign_to": variable}
        if attributes["search_in"] == "hdr":
            attributes["start_line"] = "true"
        return "<ereg " + " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items()) + "/>"
