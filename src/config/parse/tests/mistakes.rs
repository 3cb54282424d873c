//! What is told of a mistake, for each kind of one.

use super::check_after_listener;

#[test]
fn each_mistake_is_told_with_its_place() {
    for (rest, expected) in [
        ("", &[][..]),
        // Syntax.
        ("a = ", &["4:5: string values must be quoted, expected literal string"]),
        ("a = 1\na = 2", &["5:1: duplicate key `a`"]),
        // Unknown keys.
        ("[hook]\n", &["4:2: unknown key `hook`; did you mean `hooks`?"]),
        ("[zzz]\n", &["4:2: unknown key `zzz`"]),
        (
            "[limits]\ncallsmax = 1\n",
            &["5:1: unknown key `callsmax` in `[limits]`; did you mean `calls_max`?"],
        ),
        (
            "[limits]\n\"zzz zzz\" = 1\n",
            &["5:1: unknown key `zzz zzz` in `[limits]`"],
        ),
        // Types and values.
        (
            "[control]\nladders = \"some\"\nladder_messages_max = 1\nevents_bytes_max = 65535\nevent_streams_max = 1001\n",
            &[
                "5:11: `ladders` is \"some\", must be \"off\" or \"transfers\" or \"all\"",
                "6:23: `ladder_messages_max` is 1, must be 2 to 10000",
                "7:20: `events_bytes_max` is 65535, must be 65536 to 4294967296",
                "8:21: `event_streams_max` is 1001, must be 0 to 1000",
            ],
        ),
        (
            "[limits]\ncalls_max = \"1\"\n",
            &["5:13: `calls_max` is a string, must be an integer"],
        ),
        (
            "[limits]\ncalls_max = 0\n",
            &["5:13: `calls_max` is 0, must be 1 to 1073741824"],
        ),
        (
            "[limits]\ncalls_max = -1\n",
            &["5:13: `calls_max` is -1, must be 1 to 1073741824"],
        ),
        (
            "[limits]\nnap = 5\n",
            &["5:7: `nap` is an integer, must be a string such as \"5s\""],
        ),
        ("[limits]\nnap = \"1s\"\n", &["5:7: `nap` is 1s, must be 0s to 10ms"]),
        (
            "[limits]\nnap = \"1\"\n",
            &["5:7: `1` is no duration: write a whole number and a unit, such as \"500ms\", \"1s\" or \"2m\""],
        ),
        (
            "[timers]\ntimer_c = \"3m\"\n",
            &["5:11: `timer_c` is 3m, must be 181s to 1h"],
        ),
        (
            "[limits]\nring_max = \"3m\"\ncall_max = \"0s\"\n",
            &[
                "5:12: `ring_max` is 3m, must be 181s to 24h",
                "6:12: `call_max` is 0s, must be 1m to 720h",
            ],
        ),
        (
            "[timers]\nsession_expires = \"89s\"\nmin_se = \"90500ms\"\n",
            &[
                "5:19: `session_expires` is 89s, must be 90s to 24h",
                "6:10: a session interval is a number of seconds",
            ],
        ),
        (
            "[timers]\nmin_se = \"5m\"\nsession_expires = \"4m\"\n",
            &["6:19: `session_expires` is shorter than `min_se`"],
        ),
        ("[timers]\nt1 = \"5s\"\n", &["5:6: `t2` is shorter than `t1`"]),
        (
            "[limits]\nqueue_delay_interval = \"10ms\"\nretry_after = \"1500ms\"\nidle_timeout = \"32s\"\n",
            &[
                "5:24: `queue_delay_interval` is shorter than `queue_delay_target`",
                "6:15: `retry_after` must be whole seconds",
                "7:16: `idle_timeout` is 32s, must be 182s to 24h",
            ],
        ),
        (
            "[limits]\nidle_timeout = \"212999ms\"\n",
            &["5:16: `idle_timeout` is 212999ms, shorter than a transaction may last: `timer_c` and 64 `t1`, 213s"],
        ),
        ("[limits]\nidle_timeout = \"213s\"\n", &[]),
        (
            "[timers]\nt1 = \"1s\"\ntimer_c = \"9m\"\n",
            &["6:11: `idle_timeout` is 10m, shorter than a transaction may last: `timer_c` and 64 `t1`, 604s"],
        ),
        (
            "[timers]\nt1 = \"10s\"\nt2 = \"10s\"\n",
            &["5:6: `idle_timeout` is 10m, shorter than a transaction may last: `timer_c` and 64 `t1`, 821s"],
        ),
        (
            "[access]\ndialog_secret = \"fifteen bytes..\"\n",
            &["5:17: `dialog_secret` has fewer than 16 bytes"],
        ),
        (
            "[access]\nsource_rate = 0\nstun = \"yes\"\nunknown_source_rate = 1000001\n",
            &[
                "5:15: `source_rate` is 0, must be 1 to 1000000",
                "6:8: `stun` is a string, must be true or false",
                "7:23: `unknown_source_rate` is 1000001, must be 1 to 1000000",
            ],
        ),
        (
            "[access]\nunknown_source = \"silence\"\n",
            &["5:18: `unknown_source` is \"silence\", must be \"reject\" or \"silent\"; did you mean `silent`?"],
        ),
        ("limits = 1\n", &["4:1: unknown key `limits` in `[[listen]]`"]),
        (
            "[[limits]]\ncalls_max = 1\n",
            &["4:1: there is one `[limits]` only, with single brackets"],
        ),
        (
            "[trunk]\nname = \"t\"\n",
            &["4:1: there may be several, so write `[[trunk]]` with double brackets"],
        ),
        // Environment variables.
        (
            "[hooks]\nsecret = \"${env:NOT_SET}\"\n",
            &["5:10: the environment variable `NOT_SET` is not set"],
        ),
        (
            "[hooks]\nsecret = \"${HOOK_SECRET}\"\n",
            &["5:10: `${` starts an environment variable, written `${env:NAME}`; write `$${` for the text `${`"],
        ),
        ("[hooks]\nsecret = \"\"\n", &["5:10: `secret` is empty"]),
        (
            "[hooks]\nbase_url = \"app.example.com\"\n",
            &["5:12: `app.example.com` is no http:// or https:// URL"],
        ),
        // The control API.
        (
            "[control]\nlisten = \"0.0.0.0:8080\"\n",
            &[
                "5:10: the control API would listen on 0.0.0.0:8080 without a token: set `control.token` or use a loopback address",
            ],
        ),
        (
            "[control]\nlisten = \"0.0.0.0:8080\"\ntoken = \"a b\"\n",
            &["6:9: `token` holds white space or control characters"],
        ),
        // Listeners.
        (
            "[[listen]]\nbind = [\"udp:127.0.0.1:5061\"]\n",
            &["4:1: `[[listen]]` lacks `name`"],
        ),
        ("[[listen]]\nname = \"m\"\n", &["4:1: `[[listen]]` lacks `bind`"]),
        ("[[listen]]\nname = \"m\"\nbind = []\n", &["6:8: `bind` is empty"]),
        (
            "[[listen]]\nname = \"l\"\nbind = [\"udp:127.0.0.1:5060\"]\n",
            &[
                "5:8: the name `l` is taken already",
                "6:9: `udp:127.0.0.1:5060` is bound already",
            ],
        ),
        (
            "[[listen]]\nname = \"m\"\nbind = [\"tls:127.0.0.1:5061\", 7]\n",
            &[
                "6:9: the transport `tls` is not supported yet: only udp and tcp are",
                "6:31: each of `bind` is an integer, must be a string: put it in quotes",
            ],
        ),
        // Health and caps.
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"l\"\naddresses = [\"127.0.0.1\"]\ncalls_max = 0\ncalls_per_second_max = 0\n",
            &[
                "8:13: `calls_max` is 0, must be 1 to 1073741824",
                "9:24: `calls_per_second_max` is 0, must be 1 to 10000000",
            ],
        ),
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"l\"\naddresses = [\"127.0.0.1\"]\n[trunk.health]\nperiod = \"2s\"\nfailures = 0\n",
            &[
                "9:10: `period`, 2s, is shorter than `timeout`, 5s",
                "10:12: `failures` is 0, must be 1 to 1000",
            ],
        ),
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"l\"\naddresses = [\"127.0.0.1\"]\nhealth = { timeout = \"31s\", perid = \"1s\" }\n",
            &[
                "8:22: `period`, 30s, is shorter than `timeout`, 31s",
                "8:29: unknown key `perid` in `[trunk.health]`; did you mean `period`?",
            ],
        ),
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"l\"\nsources = [\"10.0.0.0/8\"]\n[trunk.health]\n",
            &["8:1: `[trunk.health]` of a trunk without `addresses`: there is nobody to send OPTIONS to"],
        ),
        // Trunks.
        (
            "[[trunk]]\nside = \"carrier\"\n",
            &[
                "4:1: `[[trunk]]` lacks `name`",
                "4:1: `[[trunk]]` lacks `listen`",
                "4:1: `[[trunk]]` lacks `sources`: without `addresses`, nobody could speak as this trunk",
            ],
        ),
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"m\"\nsources = [\"10.0.0.0/8\"]\n",
            &["6:10: there is no `[[listen]]` named `m`; did you mean `l`?"],
        ),
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"l\"\naddresses = [\"sip.example.net\"]\n",
            &[
                "7:14: `[[trunk]]` lacks `sources`: `sip.example.net` is a name, so nothing says who may speak as this trunk",
            ],
        ),
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"l\"\naddresses = [\"udp:[::1]\"]\nsources = []\n",
            &[
                "7:14: the listener `l` binds no IPv6 address to send from",
                "8:11: `sources` is empty",
            ],
        ),
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"l\"\nsources = [\"10.0.0.1/8\"]\n[trunk.refer]\nbye_dealy = \"1s\"\n",
            &[
                "7:12: `10.0.0.1/8` is an address within a network; the network is \"10.0.0.0/8\"",
                "9:1: unknown key `bye_dealy` in `[trunk.refer]`; did you mean `bye_delay`?",
            ],
        ),
        (
            "[[trunk]]\nname = \"t\"\nlisten = \"l\"\nsources = [\"10.0.0.0/8\"]\n\
             [trunk.refer]\nsuccess_codes = [410, 200]\nnotify_timeout = \"121s\"\n",
            &[
                "9:23: each of `success_codes` is 200, must be 300 to 699",
                "10:18: `notify_timeout` is longer than `total_timeout`, 2m",
            ],
        ),
        // Applications.
        (
            "[[application]]\nname = \"ivr\"\ncall_hook = \"https://app.example.com/call\"\n",
            &[],
        ),
        (
            "[[application]]\nname = \"ivr\"\ncall_hook = \"/call\"\ncall_status_hook = \"//other.example\"\n\
             on_unanswered = \"wait\"\nmedia_verbs = \"skp\"\nmedia_address = \"192.0.2.1\"\nusername = \"a:b\"\n\
             answer_timeout = \"0s\"\n",
            &[
                "6:13: `/call` is no http:// or https:// URL",
                "7:20: `//other.example` is no http:// or https:// URL",
                "8:17: `on_unanswered` is \"wait\", must be \"answer\" or \"redirect\" or \"fail\"",
                "9:15: `media_verbs` is \"skp\", must be \"reject\" or \"skip\"; did you mean `skip`?",
                "10:17: `media_address` is `192.0.2.1`, must be an IP address and a port such as 192.0.2.1:4000",
                "11:12: `username` holds a colon or control characters",
                "11:12: `username` needs `password`",
                "12:18: `answer_timeout` is 0s, must be 1s to 1h",
            ],
        ),
        (
            "[[application]]\nmedia_address = \"0.0.0.0:4000\"\nsecrte = \"x\"\n[[application]]\nname = \"a\"\n\
             call_hook = \"http://a\"\n[[application]]\nname = \"a\"\ncall_hook = \"http://b\"\n",
            &[
                "4:1: `[[application]]` lacks `name`",
                "4:1: `[[application]]` lacks `call_hook`",
                "5:17: `media_address` is `0.0.0.0:4000`, where nobody can send to",
                "6:1: unknown key `secrte` in `[[application]]`; did you mean `secret`?",
                "11:8: the name `a` is taken already",
            ],
        ),
    ] {
        check_after_listener(rest, expected);
    }
}
