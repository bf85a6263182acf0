"""Tests of run.py that need no PyTorch: `python3 -m unittest discover -s scripts/peers -p '*_test.py'`."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import run  # noqa: E402

# A program that answers the protocol; argv: milliseconds of an answer, names it refuses, with a sign before them names at which it
# ends (!), hangs (~) or also gives the time by the wall, ten times as long (+).
FAKE = r"""
import json, sys, time
for line in sys.stdin:
    name, repeats = line.split()
    if name == "hello":
        answer = {"name": name, "version": "Fake 1"}
    elif "!" + name in sys.argv[2:]:
        sys.exit(3)
    elif "~" + name in sys.argv[2:]:
        time.sleep(60)
    elif name in sys.argv[2:]:
        answer = {"name": name, "error": "unknown name"}
    else:
        answer = {"name": name, "ms": [float(sys.argv[1]) + 1e-5 * k for k in range(int(repeats))]}
        if "+" + name in sys.argv[2:]:
            answer["wall_ms"] = [10 * t for t in answer["ms"]]
        if name == "search_released_schedule":
            answer.update(fraction=0.1, extrapolated=True)
    print(json.dumps(answer), flush=True)
"""


class Interval(unittest.TestCase):
    def test_equal_blocks_have_no_width(self):
        self.assertEqual(run.ratio_interval([[2.0, 2.0]] * 3, [[6.0]] * 3), (3.0, 3.0, 3.0))

    def test_interval_holds_the_ratio_and_grows_with_the_noise(self):
        ours = [[1.0, 1.1, 0.9]] * 3
        calm = run.ratio_interval(ours, [[4.0], [4.1], [3.9]])
        wild = run.ratio_interval(ours, [[4.0], [8.0], [2.0]])
        for ratio, low, high in (calm, wild):
            self.assertAlmostEqual(ratio, 4.0)
            self.assertTrue(low <= ratio <= high)
        self.assertGreater(wild[2] - wild[1], calm[2] - calm[1])


class Cpu(unittest.TestCase):
    @unittest.skipUnless(os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"), "the system does not list children")
    def test_children_count(self):
        burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
        outer = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
        child = subprocess.Popen([sys.executable, "-c", outer, burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()  # the grandchild has burnt, and lives
        self.assertGreater(run.process_cpu(child.pid), 0.25)
        child.communicate(b"\n")
        self.assertEqual(run.process_cpu(child.pid), 0.0)


class Driver(unittest.TestCase):
    def drive(self, ours, peer, *more):
        with tempfile.TemporaryDirectory() as folder:
            fake, out = os.path.join(folder, "fake.py"), os.path.join(folder, "sub", "peers.json")
            with open(fake, "w") as f:
                f.write(FAKE)
            arguments = ["--python", sys.executable, "--pause", "0", "--out", out, *more]
            arguments += ["--ours", "{python} %s %s" % (fake, ours), "--peer", "{python} %s %s" % (fake, peer)]
            text = io.StringIO()
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
                status = run.main(arguments)
            with open(out) as f:
                return status, json.load(f), text.getvalue()

    def test_all_rows(self):
        status, document, text = self.drive("2", "10")
        self.assertEqual(status, 0)
        self.assertEqual(document["peer_version"], "Fake 1")
        self.assertEqual([r["name"] for r in document["results"]], [r.name for r in run.ROWS])
        for r in document["results"]:
            self.assertAlmostEqual(r["ratio"], 5, delta=0.1)
            self.assertTrue(r["ratio_low"] <= r["ratio"] <= r["ratio_high"], r)
        self.assertIn("ran 10% of the schedule", text)

    def test_a_gpu_is_measured_beside_eager_and_when_asked_compiled(self):
        status, document, _ = self.drive("2", "10", "--device", "cuda:0")
        self.assertEqual(status, 0)
        self.assertEqual([r["name"] for r in document["results"]], [r.name for r in run.GPU_ROWS])
        status, document, _ = self.drive("2", "10", "--device", "cuda:0", "--compile")
        self.assertEqual(status, 0)
        names = [r["name"] for r in document["results"]]
        self.assertIn("nac_step_released_512", names)
        self.assertIn("nac_step_released_512_compiled", names)
        self.assertNotIn("controller_iteration_compiled", names)

    def test_both_sides_are_measured_by_the_wall(self):
        name = "controller_iteration"
        status, document, text = self.drive(f"2 +{name}", "40", "--only", name)
        self.assertEqual(status, 0)
        (r,) = document["results"]
        self.assertAlmostEqual(r["ratio"], 2, delta=0.1)
        self.assertAlmostEqual(r["ours_ms"], 20, delta=0.1)
        self.assertAlmostEqual(r["ours_gpu_ms"], 2, delta=0.1)
        self.assertIn("ms by the GPU's clock", text)

    def test_a_program_that_ends_costs_its_row_alone(self):
        lost = "encode_space_released"
        names = f"nac_step_released_256,{lost},controller_iteration"
        for ours, peer, who in ((f"2 !{lost}", "10", "ours"), ("2", f"10 !{lost}", "peer")):
            with self.subTest(who):
                status, document, text = self.drive(ours, peer, "--only", names)
                self.assertEqual(status, 1)
                self.assertEqual([r["name"] for r in document["results"]], ["nac_step_released_256", "controller_iteration"])
                self.assertEqual(document["skipped"], [{"name": lost, "reason": f"{who}: ended with status 3 at {lost}"}])
                self.assertIn(f"{lost}: left out", text)

    def test_the_time_is_kept_and_what_was_measured_too(self):
        lost = "encode_space_released"
        begin = time.monotonic()
        status, document, _ = self.drive(f"2 ~{lost}", "10", "--only", f"nac_step_released_256,{lost},controller_iteration", "--budget", "5")
        self.assertLess(time.monotonic() - begin, 40)
        self.assertEqual(status, 1)
        self.assertEqual([r["name"] for r in document["results"]], ["nac_step_released_256"])
        reasons = {r["name"]: r["reason"] for r in document["skipped"]}
        self.assertEqual(reasons, {lost: "ours: the time was up", "controller_iteration": "the time was up"})

    def test_each_row_is_written_when_it_is_measured(self):
        written = []
        with unittest.mock.patch.object(run, "write", side_effect=lambda path, d: written.append(len(d["results"]) + len(d["skipped"]))):
            with contextlib.suppress(FileNotFoundError):  # nothing is in the file
                self.drive("2 controller_iteration", "10", "--only", "nac_step_released_256,controller_iteration,encode_space_released")
        self.assertEqual(written, [1, 2, 3, 3])

    def test_a_refused_row_is_named_and_left_out(self):
        name = "encode_space_released_unshared"
        status, document, text = self.drive(f"2 {name}", "10", "--only", f"{name},controller_iteration")
        self.assertEqual(status, 0)
        self.assertEqual([r["name"] for r in document["results"]], ["controller_iteration"])
        self.assertEqual(document["skipped"], [{"name": name, "reason": "ours: unknown name"}])
        self.assertIn(f"{name}: left out", text)

    def test_nothing_measured_fails(self):
        status, document, _ = self.drive("2 controller_iteration", "10", "--only", "controller_iteration")
        self.assertEqual((status, document["results"]), (1, []))

    def test_a_bad_answer_is_no_result(self):
        status, document, _ = self.drive("-1", "10", "--only", "controller_iteration")
        self.assertEqual((status, document["results"]), (1, []))
        self.assertIn("bad answer to controller_iteration", document["skipped"][0]["reason"])

    def test_a_program_that_is_not_there(self):
        status, document, _ = self.drive("2", "10", "--only", "controller_iteration", "--python", "/nowhere/python")
        self.assertEqual((status, document["results"]), (1, []))
        self.assertIn("cannot start /nowhere/python", document["skipped"][0]["reason"])

    def test_flags_are_checked(self):
        for bad in (["--blocks", "2"], ["--fraction", "0"], ["--only", "nothing"], ["--budget", "0"], ["--compile"]):
            with self.subTest(bad), contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit):
                run.arguments(bad)


if __name__ == "__main__":
    unittest.main()
