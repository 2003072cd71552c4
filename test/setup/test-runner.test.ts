import { execFile } from 'node:child_process'
import { join, relative } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../..')

/** What a file of tests does, and how the line about it goes on. */
const files = {
  passes: ['t.test("a", t => { t.ok(1); t.ok(1); t.end() })', /^ok \d+ - \S+ # time=\d+ms$/],
  skips: ['t.plan(0, "nothing here")', /^ok \d+ - \S+ # SKIP nothing here time=\d+ms$/],
  fails: ['t.test("a", t => { t.ok(0, "was to be"); t.ok(1); t.end() })', /^not ok .* exit code 1$/],
  'fails-unsaid': ['t.test("a", t => { t.ok(0); t.end() }); process.on("exit", () => { process.exitCode = 0 })', /^not ok .* failed$/],
  throws: ['throw new Error("not caught")', /^not ok .* exit code 1$/],
  'ends-early': ['t.test("a", () => { t.ok(1); process.exit(0) })', /^not ok .* exit code 1$/],
  'waits-for-nothing': ['t.test("a", () => new Promise(() => {}))', /^not ok .* exit code 1$/],
  'waits-too-long': ['t.setTimeout(100); t.test("a", () => new Promise(go => setTimeout(go, 1e6)))', /^not ok .* took too long$/],
  'is-killed': ['t.test("a", () => process.kill(process.pid, "SIGKILL"))', /^not ok .* SIGKILL$/],
  'proves-nothing': ['console.log(typeof t)', /^not ok .* ended without a plan$/]
} as const

void t.test('each way in which a file of tests can end', async t => {
  const texts = Object.entries(files).map(([name, [text]]) => [`${name}.mjs`, `import t from 'tap'\n${text}\n`])
  const folder = relative(root, t.testdir(Object.fromEntries(texts)))
  const paths = Object.keys(files).map(name => `${folder}/${name}.mjs`)
  const { code, stdout } = await new Promise<{ code: unknown, stdout: string }>(resolve => {
    execFile('node', ['scripts/test.mjs', ...paths], { cwd: root }, (error, stdout) => resolve({ code: error?.code ?? 0, stdout }))
  })
  const lines = stdout.split('\n')
  t.equal(code, 1)
  t.match(stdout, /not ok 1 - was to be\n +---\n/, 'a failure has its diagnosis')
  for (const [index, [name, [, wanted]]] of Object.entries(files).entries()) {
    t.match(lines.find(line => line.includes(`${paths[index]} #`)), wanted, name)
  }
  t.match(lines.at(-2), /^4 passed, \d+ failed, 1 skipped$/)
})
