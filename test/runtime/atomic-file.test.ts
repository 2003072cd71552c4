import { mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { removeTemporaries, writeFileAtomically } from '../../src/runtime/atomic-file.ts'

void t.test('replaces the whole file and its mode', async t => {
  const folder = t.testdir({ file: 'a long old content' })
  const file = join(folder, 'file')
  const old = process.umask(0o077)
  t.teardown(() => process.umask(old))
  for (const mode of [0o600, 0o644, 0o640]) {
    await writeFileAtomically(file, `new ${mode}`, { mode })
    t.equal(readFileSync(file, 'utf8'), `new ${mode}`)
    t.equal(statSync(file).mode & 0o777, mode, 'whatever the umask')
  }
  await writeFileAtomically(file, new Uint8Array([0, 255]), { mode: 0o600 })
  t.strictSame([...readFileSync(file)], [0, 255])
  t.strictSame(readdirSync(folder), ['file'])
})

void t.test('a reader sees one state or the other', async t => {
  const file = join(t.testdir({}), 'file')
  const states = ['a', 'b'].map(letter => letter.repeat(300_000))
  await writeFileAtomically(file, states[0] as string, { mode: 0o600 })
  const done = new AbortController()
  const writes = (async () => {
    for (let round = 1; round < 40; round++) await writeFileAtomically(file, states[round % 2] as string, { mode: 0o600 })
    done.abort()
  })()
  const seen = new Set<string>()
  while (!done.signal.aborted) {
    seen.add(readFileSync(file, 'utf8'))
    await new Promise(resolve => setImmediate(resolve))
  }
  await writes
  t.ok([...seen].every(content => states.includes(content)), `${seen.size} different contents`)
})

void t.test('writers at the same time do not mix', async t => {
  const folder = t.testdir({})
  const states = Array.from({ length: 8 }, (_, index) => String(index).repeat(100_000))
  await Promise.all(states.map(state => writeFileAtomically(join(folder, 'file'), state, { mode: 0o600 })))
  t.ok(states.includes(readFileSync(join(folder, 'file'), 'utf8')))
  t.strictSame(readdirSync(folder), ['file'])
})

void t.test('a failure leaves the old state and no temporary file', async t => {
  const folder = t.testdir({ taken: { by: 'a folder' } })
  await t.rejects(writeFileAtomically(join(folder, 'taken'), 'x', { mode: 0o600 }), { code: /EISDIR|ENOTEMPTY|EEXIST/ })
  t.strictSame(readdirSync(folder), ['taken'])
  await t.rejects(writeFileAtomically(join(folder, 'absent', 'file'), 'x', { mode: 0o600 }), { code: 'ENOENT' })
})

void t.test('a link is replaced, not followed', async t => {
  const folder = t.testdir({ target: 'untouched' })
  symlinkSync(join(folder, 'target'), join(folder, 'link'))
  await writeFileAtomically(join(folder, 'link'), 'new', { mode: 0o600 })
  t.equal(readFileSync(join(folder, 'target'), 'utf8'), 'untouched')
  t.throws(() => readlinkSync(join(folder, 'link')))
})

void t.test('removes its own temporary files only', async t => {
  const folder = t.testdir({})
  const names = ['.file.abcdefghijk_.tmp', '.file.short.tmp', '.other.abcdefghijk_.tmp', 'file', '.file.abcdefghijk_']
  for (const name of names) writeFileSync(join(folder, name), '')
  mkdirSync(join(folder, 'folder'))
  await removeTemporaries(join(folder, 'file'))
  t.strictSame(readdirSync(folder).toSorted(), ['.file.abcdefghijk_', '.file.short.tmp', '.other.abcdefghijk_.tmp', 'file', 'folder'])
})
