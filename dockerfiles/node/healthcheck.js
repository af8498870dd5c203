// Exits 0 when the service in this container answers 200 on /health, else 1 with the reason.
const port = process.argv[2];
try {
  const answer = await fetch(`http://127.0.0.1:${port}/health`, {
    signal: AbortSignal.timeout(4_000),
  });
  console.log(`${answer.status} ${await answer.text()}`);
  process.exit(answer.ok ? 0 : 1);
} catch (error) {
  console.log(`no answer on port ${port}: ${error}`);
  process.exit(1);
}
