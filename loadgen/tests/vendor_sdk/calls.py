"""Every call of the vendor's client against the emulator, with both signatures. Exits 0 when all is as expected."""
import sys
import time

import reach
from aliyun.log import LogClient, LogException, LogItem, PutLogsRequest

P, L = reach.PROJECT, reach.LOGSTORE


def client(version, secret=reach.SECRET):
    return LogClient(reach.ENDPOINT, reach.KEY, secret, auth_version=version, region="cn-hangzhou")


def refused(code, status, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except LogException as error:
        assert error.get_error_code() == code, (error.get_error_code(), error.get_error_message())
        assert error.resp_status == status, (code, error.resp_status)
        assert len(error.get_request_id()) == 24, error.get_request_id()
    else:
        raise AssertionError("%s was not refused with %s" % (call.__name__, code))


def item(number):
    # Brackets, spaces, quotes and text that is not ASCII.
    contents = [("n", str(number)), ("text", "a \"b\" [c] & d=e"), ("消息", "你好 😀"), ("empty", "")]
    return LogItem(timestamp=1_767_323_000 + number, time_nano_part=123_456_789, contents=contents)


def put(c, numbers, compress, kind="lz4", key=None):
    items = [item(n) for n in numbers]
    c.put_logs(PutLogsRequest(P, L, "topic", "192.0.2.10", items, key, compress, [("tag", "v")], kind))


def pull_all(c, shard, cursor, end=None, **kwargs):
    logs = []
    for _ in range(10_000):
        answer = c.pull_logs(P, L, shard, cursor, count=3, end_cursor=end, **kwargs)
        assert answer.get_loggroup_count() == len(answer.get_loggroup_list().LogGroups)
        for group in answer.get_loggroup_list().LogGroups:
            assert group.Topic == "topic" and group.Source == "192.0.2.10"
            assert [(t.Key, t.Value) for t in group.LogTags] == [("tag", "v")]
            for log in group.Logs:
                logs.append((log.Time, log.Time_ns, [(c.Key, c.Value) for c in log.Contents]))
        if answer.get_next_cursor() == cursor:
            return logs, cursor
        cursor = answer.get_next_cursor()
    raise AssertionError("the shard has no end")


def writes_and_pulls(version, base):
    c = client(version)
    before = {s["shardID"]: c.get_end_cursor(P, L, s["shardID"]).get_cursor() for s in c.list_shards(P, L).shards}
    assert sorted(before) == [0, 1], before
    put(c, range(base, base + 10), True)
    put(c, range(base + 10, base + 20), False)
    put(c, range(base + 20, base + 30), True, kind="zstd")
    put(c, range(base + 30, base + 40), True, key="00000000000000000000000000000000")
    put(c, range(base + 40, base + 50), True, key="ffffffffffffffffffffffffffffffff")
    ends = {shard: c.get_end_cursor(P, L, shard).get_cursor() for shard in before}
    want = sorted((1_767_323_000 + n, 123_456_789, [("n", str(n)), ("text", "a \"b\" [c] & d=e"), ("消息", "你好 😀"),
                   ("empty", "")]) for n in range(base, base + 50))
    for how in ({}, {"accept_compress_type": "zstd"}, {"compress": False}):
        got = []
        for shard, cursor in before.items():
            logs, end = pull_all(c, shard, cursor, **how)
            assert end == ends[shard], (how, shard)
            got += logs
        assert sorted(got) == want, (version, how, len(got))
    # A range ends where it is told to.
    for shard, cursor in before.items():
        one = c.pull_logs(P, L, shard, cursor, count=1)
        part, end = pull_all(c, shard, cursor, end=one.get_next_cursor())
        assert end == one.get_next_cursor() and len(part) == 10, (end, len(part))
    routed = c.pull_logs(P, L, 0, before[0], count=1000).get_flatten_logs_json()
    assert {log["n"] for log in routed} >= {str(n) for n in range(base + 30, base + 40)}


def cursors(version):
    c = client(version)
    begin, end = c.get_begin_cursor(P, L, 0).get_cursor(), c.get_end_cursor(P, L, 0).get_cursor()
    assert begin != end
    now = int(time.time())
    received = c.get_cursor_time(P, L, 0, begin).get_cursor_time()
    assert now - 120 <= received <= now + 1, (received, now)
    assert c.get_cursor(P, L, 0, now - 3600).get_cursor() == begin
    assert c.get_cursor(P, L, 0, now + 3600).get_cursor() == end
    # A time that has not passed yet stands for the end.
    time.sleep(max(0, received + 1.1 - time.time()))
    assert c.get_cursor(P, L, 0, received).get_cursor() == begin
    assert received <= c.get_previous_cursor_time(P, L, 0, end).get_cursor_time() <= now + 1
    refused("InvalidCursor", 400, c.get_cursor_time, P, L, 0, "bm9uc2Vuc2U=")
    refused("InvalidCursor", 400, c.pull_logs, P, L, 0, "bm9uc2Vuc2U=")
    refused("ParameterInvalid", 400, c.pull_logs, P, L, 0, begin, 1001)
    refused("ShardNotExist", 400, c.get_begin_cursor, P, L, 99)


def groups(version):
    c = client(version)
    g = "group-" + version
    c.create_consumer_group(P, L, g, 40, in_order=False)
    refused("ConsumerGroupAlreadyExist", 400, c.create_consumer_group, P, L, g, 40)
    listed = {x.get_consumer_group_name(): x for x in c.list_consumer_group(P, L).get_consumer_groups()}
    assert (listed[g].get_timeout(), listed[g].is_in_order()) == (40, False)
    c.update_consumer_group(P, L, g, 60, True)
    listed = {x.get_consumer_group_name(): x for x in c.list_consumer_group(P, L).get_consumer_groups()}
    assert (listed[g].get_timeout(), listed[g].is_in_order()) == (60, True)
    assert c.heart_beat(P, L, g, "c1", []).get_shards() == [0, 1]
    assert c.heart_beat(P, L, g, "c2", []).get_shards() == []
    assert c.heart_beat(P, L, g, "c1", [0, 1]).get_shards() == [0]
    assert c.heart_beat(P, L, g, "c1", [0]).get_shards() == [0]
    assert c.heart_beat(P, L, g, "c2", []).get_shards() == [1]
    never = c.get_check_point(P, L, g, 0).get_consumer_group_check_points()
    assert len(never) == 1 and never[0]["checkpoint"] == "", never
    cursor = c.get_begin_cursor(P, L, 0).get_cursor()
    c.update_check_point(P, L, g, 0, cursor, "c1", False)
    saved = c.get_check_point(P, L, g, 0).get_consumer_group_check_points()
    assert saved[0]["checkpoint"] == cursor and saved[0]["consumer"] == "c1", saved
    assert abs(saved[0]["updateTime"] / 1e6 - time.time()) < 60, saved
    assert len(c.get_check_point(P, L, g).get_consumer_group_check_points()) == 2
    assert c.get_check_point(P, L, g, 77).get_consumer_group_check_points() == []
    refused("ConsumerNotMatch", 400, c.update_check_point, P, L, g, 0, cursor, "c2", False)
    refused("ConsumerNotExist", 404, c.update_check_point, P, L, g, 0, cursor, "c3", False)
    c.update_check_point(P, L, g, 0, cursor, "c3", True)
    refused("InvalidCursor", 400, c.update_check_point, P, L, g, 0, "eA==", "c1", False)
    refused("ShardNotExist", 400, c.update_check_point, P, L, g, 77, cursor, "c1", True)
    c.delete_consumer_group(P, L, g)
    refused("ConsumerGroupNotExist", 404, c.heart_beat, P, L, g, "c1", [])
    refused("ConsumerGroupNotExist", 404, c.get_check_point, P, L, g, 0)


def stores(version):
    c = client(version)
    assert c.get_project(P).get_projectname() == P
    name = "made-by-" + version
    c.create_logstore(P, name, ttl=3, shard_count=2, append_meta=True)
    made = c.get_logstore(P, name)
    assert (made.logstore_name, made.get_ttl(), made.get_shard_count()) == (name, 3, 2)
    assert {L, name} <= set(c.list_logstore(P).get_logstores())
    assert [s["status"] for s in c.list_shards(P, name).shards] == ["readwrite"] * 2
    split = c.split_shard(P, name, 0, "3fffffffffffffffffffffffffffffff").shards
    assert [(s["shardID"], s["status"]) for s in split] == [(0, "readonly"), (2, "readwrite"), (3, "readwrite")], split
    merged = c.merge_shard(P, name, 3).shards
    assert [(s["shardID"], s["status"]) for s in merged] == [(3, "readonly"), (1, "readonly"), (4, "readwrite")], merged
    c.delete_logstore(P, name)
    refused("LogStoreNotExist", 404, c.list_shards, P, name)


def filters(version):
    c = client(version)
    name = "filtered-by-" + version
    c.create_logstore(P, name, ttl=3, shard_count=1)
    for base in (0, 10, 20):
        items = [item(n) for n in range(base, base + 10)]
        c.put_logs(PutLogsRequest(P, name, "topic", "192.0.2.10", items, None, True, [("tag", "v")]))
    begin, end = c.get_begin_cursor(P, name, 0).get_cursor(), c.get_end_cursor(P, name, 0).get_cursor()
    for how in ({}, {"accept_compress_type": "zstd"}, {"compress": False}):
        query = "* | where cast(n as bigint) >= 25 and 消息 like '你好%' and not n in ('27', '28')"
        answer = c.pull_logs(P, name, 0, begin, query=query, **how)
        assert [log["n"] for log in answer.get_flatten_logs_json()] == ["25", "26", "29"], how
        assert answer.get_next_cursor() == end
        assert (answer.get_loggroup_count(), answer.get_raw_log_group_count_before_query()) == (1, 3)
        assert answer.get_raw_size_before_query() > 5 * answer.get_raw_size(), answer.get_raw_size_before_query()
    # Nothing passes, and the cursor moves on.
    answer = c.pull_logs(P, name, 0, begin, count=2, query="* | where n = '25'")
    assert answer.get_loggroup_count() == 0 and answer.get_next_cursor() not in (begin, end)
    answer = c.pull_logs(P, name, 0, answer.get_next_cursor(), count=2, query="* | where n = '25' | project n")
    assert [(x.Key, x.Value) for x in answer.get_loggroup_list().LogGroups[0].Logs[0].Contents] == [("n", "25")]
    assert answer.get_loggroup_list().LogGroups[0].Logs[0].Time_ns == 123_456_789
    answer = c.pull_logs(P, name, 0, begin, processor="low")
    assert len(answer.get_flatten_logs_json()) == 10 and answer.get_loggroup_count() == 1
    refused("ParameterInvalid", 400, c.pull_logs, P, name, 0, begin, query="* | extend a = n")
    refused("ParameterInvalid", 400, c.pull_logs, P, name, 0, begin, processor="no-such-processor")
    c.delete_logstore(P, name)


def refusals(version):
    c = client(version)
    refused("LogStoreNotExist", 404, c.list_shards, P, "no-such-logstore")
    # Over TLS the certificate names the one project only.
    if "one-project" not in sys.argv:
        refused("ProjectNotExist", 404, c.list_shards, "no-such-project", L)
    refused("SignatureNotMatch", 401, client(version, "wrong").list_shards, P, L)
    stranger = LogClient(reach.ENDPOINT, "stranger", reach.SECRET, auth_version=version, region="cn-hangzhou")
    refused("Unauthorized", 401, stranger.list_shards, P, L)
    if version == "v4":
        elsewhere = LogClient(reach.ENDPOINT, reach.KEY, reach.SECRET, auth_version=version, region="cn-shanghai")
        refused("SignatureNotMatch", 401, elsewhere.list_shards, P, L)


def temporary(version):
    def with_token(token):
        return LogClient(reach.ENDPOINT, "temporary", "its-secret", token, auth_version=version, region="cn-hangzhou")

    assert len(with_token("its-token").list_shards(P, L).shards) == 2
    refused("Unauthorized", 401, with_token("another-token").list_shards, P, L)
    refused("Unauthorized", 401, with_token(None).list_shards, P, L)


for number, version in enumerate(("v1", "v4")):
    writes_and_pulls(version, number * 100)
    cursors(version)
    groups(version)
    stores(version)
    filters(version)
    refusals(version)
    temporary(version)
    print("calls", version, "ok", flush=True)
