import time, numpy as np, dataclasses
from medrl import types
from medrl.data import workers
R=[types.Record(id=str(i), question='?', answer='yes', answer_type='yesno') for i in range(6)]
def enc(r): return types.Example(r, ids=np.zeros(50000,np.int32))
if __name__=='__main__':
  for k in range(6):
    ds=workers.examples(R, enc, shuffle_seed=-1, repeat=True, part=slice(None))
    it=iter(workers.read(ds,2,8))
    for _ in range(5): next(it)
    time.sleep(.5)
    t=time.time(); it.close(); print('close', time.time()-t, flush=True)
