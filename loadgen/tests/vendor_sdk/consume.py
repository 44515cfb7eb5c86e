"""One consumer of the vendor's consumer library. Prints `shard value-of-seq` for every log; ends when stdin does.

The environment variable CONSUME may hold more arguments of its LogHubConfig as JSON.
"""
import json
import logging
import os
import sys

import reach
from aliyun.log.consumer import ConsumerProcessorBase, ConsumerWorker, CursorPosition, LogHubConfig

GROUP, NAME, VERSION, COMPRESSION = sys.argv[1:5]
logging.basicConfig(level=logging.INFO, stream=sys.stderr)


class Processor(ConsumerProcessorBase):
    def process(self, log_groups, check_point_tracker):
        lines = []
        for group in log_groups.LogGroups:
            for log in group.Logs:
                for content in log.Contents:
                    if content.Key == "seq":
                        lines.append("%d %s\n" % (self.shard_id, content.Value))
        sys.stdout.write("".join(lines))
        sys.stdout.flush()
        self.save_checkpoint(check_point_tracker, force=True)


more = {"heartbeat_interval": 1, "data_fetch_interval": 0.2}
more.update(json.loads(os.environ.get("CONSUME", "{}")))
option = LogHubConfig(reach.ENDPOINT, reach.KEY, reach.SECRET, reach.PROJECT, reach.LOGSTORE, GROUP, NAME,
                      cursor_position=CursorPosition.BEGIN_CURSOR, worker_pool_size=4, auth_version=VERSION,
                      region="cn-hangzhou", accept_compress_type=COMPRESSION, **more)
worker = ConsumerWorker(Processor, option)
worker.start()
sys.stdin.read()
worker.shutdown()
worker.join()
