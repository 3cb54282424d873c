/* Reads one SIP message with Sofia-SIP and prints its fields, one a line, as tests/own_messages.rs writes them.
 * Exits with 1 for a message that Sofia-SIP refuses or finds a malformed field in. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg.h>
#include <sofia-sip/msg_addr.h>
#include <sofia-sip/sip.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_parser.h>
#include <sofia-sip/sip_util.h>
#include <sofia-sip/su_alloc.h>
#include <sofia-sip/url.h>

static su_home_t home[1] = { SU_HOME_INIT(home) };

static void put(char const *name, char const *value) { printf("%s\t%s\n", name, value ? value : ""); }

static void put_number(char const *name, unsigned long value) { printf("%s\t%lu\n", name, value); }

static void put_url(char const *name, url_t const *url) { put(name, url_as_string(home, url)); }

/* The tokens of all lines. An Allow begins as every list does; the casts below rely on it, as Sofia-SIP does. */
static void put_list(char const *name, msg_list_t const *list) {
    for (; list; list = list->k_next)
        for (msg_param_t const *item = list->k_items; item && *item; item++) put(name, *item);
}

static void put_address(char const *name, sip_addr_t const *address) {
    char field[32];
    snprintf(field, sizeof field, "%s-display", name);
    put(field, address->a_display);
    snprintf(field, sizeof field, "%s-uri", name);
    put_url(field, address->a_url);
    snprintf(field, sizeof field, "%s-tag", name);
    put(field, address->a_tag);
}

static int fail(char const *path, char const *why) {
    fprintf(stderr, "%s: %s\n", path, why);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2) return fail("usage", "sofia_fields FILE");
    static char bytes[65536];
    FILE *file = fopen(argv[1], "rb");
    if (!file) return fail(argv[1], "cannot be opened");
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);

    msg_t *msg = msg_make(sip_default_mclass(), 0, bytes, (ssize_t)length);
    sip_t *sip = msg ? sip_object(msg) : NULL;
    if (!sip || msg_has_error(msg)) return fail(argv[1], "is no message for Sofia-SIP");
    if (sip->sip_error) return fail(argv[1], "has a malformed field for Sofia-SIP");
    if (sip_sanity_check(sip) < 0) return fail(argv[1], "lacks a field or disagrees with itself for Sofia-SIP");

    if (sip->sip_request) {
        put("method", sip->sip_request->rq_method_name);
        put_url("uri", sip->sip_request->rq_url);
    } else {
        put_number("status", (unsigned long)sip->sip_status->st_status);
        put("reason", sip->sip_status->st_phrase);
    }
    for (sip_via_t const *via = sip->sip_via; via; via = via->v_next) {
        char sent_by[512];
        snprintf(sent_by, sizeof sent_by, "%s%s%s", via->v_host, via->v_port ? ":" : "", via->v_port ? via->v_port : "");
        put("via-branch", via->v_branch);
        put("via-sent-by", sent_by);
        put("via-received", via->v_received);
    }
    put_address("from", sip->sip_from);
    put_address("to", sip->sip_to);
    put("call-id", sip->sip_call_id->i_id);
    printf("cseq\t%lu %s\n", (unsigned long)sip->sip_cseq->cs_seq, sip->sip_cseq->cs_method_name);
    if (sip->sip_max_forwards) put_number("max-forwards", sip->sip_max_forwards->mf_count);
    for (sip_route_t const *route = sip->sip_route; route; route = route->r_next) put_url("route", route->r_url);
    for (sip_record_route_t const *route = sip->sip_record_route; route; route = route->r_next)
        put_url("record-route", route->r_url);
    for (sip_contact_t const *contact = sip->sip_contact; contact; contact = contact->m_next)
        put_url("contact", contact->m_url);
    if (sip->sip_refer_to) put_url("refer-to", sip->sip_refer_to->r_url);
    if (sip->sip_referred_by) put_url("referred-by", sip->sip_referred_by->b_url);
    put_list("allow", (msg_list_t const *)sip->sip_allow);
    put_list("supported", (msg_list_t const *)sip->sip_supported);
    put_list("unsupported", (msg_list_t const *)sip->sip_unsupported);
    if (sip->sip_event) put("event", sip->sip_event->o_type);
    if (sip->sip_retry_after) put_number("retry-after", sip->sip_retry_after->af_delta);
    put_number("body", sip->sip_payload ? (unsigned long)sip->sip_payload->pl_len : 0);

    msg_destroy(msg);
    su_home_deinit(home);
    return 0;
}
