"""Celery on a Redis of its own: hands over jobs that do nothing, waits for all, prints jobs/s and CPU ms a job.

celery_jobs.py REDIS-SERVER JOBS WORKERS
"""

import os
import resource
import socket
import subprocess
import sys
import tempfile
import time

from celery import Celery

PORT = int(os.environ.get("REDIS_PORT", "0"))
app = Celery("jobs", broker=f"redis://127.0.0.1:{PORT}/0", backend=f"redis://127.0.0.1:{PORT}/1")
app.conf.update(worker_prefetch_multiplier=4, task_acks_late=True, broker_connection_retry_on_startup=True)


@app.task(name="nothing")
def nothing(path):
    return None


def main(redis, jobs, workers):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        environment = {**os.environ, "REDIS_PORT": str(port), "PYTHONPATH": os.path.dirname(__file__)}
        words = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker", "-c", str(workers), "-l", "ERROR"]
        worker = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for name in ("broker_url", "result_backend"):
                app.conf[name] = f"redis://127.0.0.1:{port}/{0 if name == 'broker_url' else 1}"
            until = time.monotonic() + 30
            while True:
                try:
                    nothing.delay("x").get(timeout=20)
                    break
                except Exception:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.2)
            began = time.perf_counter()
            for waiting in [nothing.delay("x") for _ in range(jobs)]:
                waiting.get(timeout=120)
            seconds = time.perf_counter() - began
        finally:
            worker.terminate()
            worker.wait()
            server.terminate()
            server.wait()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print(f"{jobs / seconds:.1f} {1000 * cpu / jobs:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
