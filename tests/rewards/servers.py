"""A local HTTP server that answers as it is told, for tests."""

import contextlib
import http.server
import json
import threading
import time


@contextlib.contextmanager
def serving(answer):
  """Serves `answer(number, path, body, headers) -> (status, bytes or JSON)`.

  Yields the address and a list of what was asked. `answer` may sleep, and may
  return more headers as a third value.
  """
  seen = []

  class Handler(http.server.BaseHTTPRequestHandler):

    def do_POST(self):
      size = int(self.headers['Content-Length'])
      body = json.loads(self.rfile.read(size))
      seen.append((self.path, body, dict(self.headers)))
      status, content, *more = answer(len(seen) - 1, self.path, body)
      if not isinstance(content, (bytes, list)):
        content = json.dumps(content).encode()
      parts = content if isinstance(content, list) else [content]
      with contextlib.suppress(OSError):   # the client may have gone
        self.send_response(status)
        for name, value in dict(*more).items():
          self.send_header(name, value)
        self.send_header('Content-Length', str(sum(map(len, parts))))
        self.end_headers()
        for part in parts:
          self.wfile.write(part)
          self.wfile.flush()
          if len(parts) > 1:
            time.sleep(.05)

    def log_message(self, *arguments):
      pass

  class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64   # or a burst of connections is refused

  server = Server(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever, args=(.01,))
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_address[1]}/v1', seen
  finally:
    server.shutdown()
    thread.join()
    server.socket.close()   # not server_close, which waits for hanging answers


def said(text):
  return {'choices': [{'message': {'role': 'assistant', 'content': text}}]}
