"""Packs a data set into ArrayRecord shards, read by `medrl.data.shards`.

  python -m launch.pack_records medrl.data.jsonl.records --root=/records \
    --options='{"file": "train.jsonl"}' --split=train --out=/records/packed

Images, DICOM files, films and small volumes are kept as they are encoded; what
several files make up stays where it is, below the root. A stopped call goes on
where it was. Then: config.data.dataset = 'medrl.data.shards.records',
config.data.options = dict(folder='packed').
"""

import argparse
import json
import pathlib
import sys

from medrl.data import named
from medrl.data import shards


def main(arguments=None) -> int:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('dataset', help='dotted name of records(root, split)')
  parser.add_argument('--root', default='', help='data root')
  parser.add_argument('--split', default='train')
  parser.add_argument('--options', default='{}', type=json.loads,
                      help='of the data set, as JSON')
  parser.add_argument('--out', required=True, type=pathlib.Path,
                      help='folder; shards go to OUT/SPLIT')
  parser.add_argument('--per_shard', type=int, default=1024)
  parser.add_argument('--verify', action='store_true',
                      help='compare the checksums of what was packed')
  args = parser.parse_args(arguments)
  if args.verify:
    found = shards.records(str(args.out), args.split, folder='.', verify=True)
    print(f'{len(found)} records in {args.out / args.split} are as packed')
    return 0
  records = named.records(args.dataset, args.root, args.split, args.options)
  for name, count, there in shards.pack(records, args.root,
                                        args.out / args.split, args.per_shard):
    print(f'{name}: {count} records{" (was there)" if there else ""}',
          flush=True)
  return 0


if __name__ == '__main__':
  sys.exit(main())
