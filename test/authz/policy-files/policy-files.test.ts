import { mkdir, rename, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { policyFileChanges, stateOf } from '../../../src/authz/policy-files/policy-file-changes.ts'
import { policyFileLimits, readPolicyFiles } from '../../../src/authz/policy-files/read-policy-files.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { eventually } from '../../fakes/eventually.ts'

t.test('which files are policies, in which order, and what they are called', async t => {
  const folder = t.testdir({
    'b.yaml': 'b', 'a': { 'z.yml': 'z' }, 'c.json': 'c', 'README.md': 'no', '.hidden.yaml': 'no', '..data': { 'd.yaml': 'no' },
    'other': { 'b.yaml': 'other' }
  })
  const named = async (...paths: readonly string[]) => (await readPolicyFiles(paths)).map(({ name, text }) => [name, text])
  t.strictSame(await named(folder), [['a/z.yml', 'z'], ['b.yaml', 'b'], ['c.json', 'c'], ['other/b.yaml', 'other']])
  t.strictSame(await named(join(folder, 'README.md')), [['README.md', 'no']], 'a file that is named is meant')
  t.strictSame(await named(join(folder, 'b.yaml'), join(folder, 'b.yaml')), [['b.yaml', 'b']], 'named twice, read once')
  const both = [join(folder, 'b.yaml'), join(folder, 'other/b.yaml')]
  t.strictSame((await readPolicyFiles(both)).map(({ name }) => name), both, 'two of one name are called by their paths')
})

t.test('what cannot be read, or is too much, is refused by its path', async t => {
  const folder = t.testdir({ empty: { 'notes.txt': '' }, latin: { 'a.yaml': Buffer.from([0xe9]) }, large: { 'a.yaml': '' }, huge: {} })
  const at = (...names: readonly string[]) => join(folder, ...names)
  await truncate(at('large/a.yaml'), policyFileLimits.fileBytes + 1)
  for (const name of ['a', 'b', 'c']) {
    await writeFile(at('huge', `${name}.yaml`), '')
    await truncate(at('huge', `${name}.yaml`), policyFileLimits.fileBytes)
  }
  const deep = Array.from({ length: policyFileLimits.depth + 1 }, () => 'd')
  await mkdir(at('deep', ...deep), { recursive: true })
  await symlink(at('loop'), at('loop'))
  const refused: Readonly<Record<string, RegExp>> = {
    empty: /there is no \*\.yaml, \*\.yml or \*\.json in .*empty/,
    latin: /latin\/a\.yaml is no UTF-8/,
    large: /large\/a\.yaml has 33554433 bytes, at most 33554432 are read/,
    huge: /the policies have 100663296 bytes, at most 67108864 are read/,
    deep: /(\/d){9} is nested more than 8 deep/,
    loop: /cannot read .*loop: ELOOP/,
    absent: /cannot read .*absent: no such file/
  }
  for (const [name, message] of Object.entries(refused)) {
    await t.rejects(readPolicyFiles([at(name)]), { code: 'file_unusable', message }, name)
  }
})

t.test('a change is told once it has come to rest', async t => {
  const folder = t.testdir({ 'a.yaml': '1', 'bundle.tar.gz': '1' })
  const [file, bundle] = [join(folder, 'a.yaml'), join(folder, 'bundle.tar.gz')]
  const clock = new ManualClock()
  const stop = new AbortController()
  let told = 0
  const following = (async () => {
    const options = { seen: await stateOf([folder], [bundle]), besides: () => [bundle] }
    for await (const _ of policyFileChanges([folder], clock, stop.signal, options)) told++
  })()
  /** Once it sleeps, its look is over. */
  const asleep = () => eventually('it waits', () => clock.sleeping === 1)
  const goOn = async (ms: number) => {
    await asleep()
    await clock.advance(ms)
    await asleep()
  }
  await goOn(500)
  t.equal(told, 0, 'what was seen before is no change')

  await writeFile(file, 'one')
  await goOn(500)
  await writeFile(file, 'one and a half')
  await goOn(200)
  t.equal(told, 0, 'it is still being written')
  await goOn(200)
  t.equal(told, 1, 'it is at rest')

  await rename(file, `${file}.away`)
  await goOn(500)
  await rename(`${file}.away`, file)
  await goOn(200)
  await goOn(200)
  t.equal(told, 2, 'a file that came back has another time of change: whoever reads it finds out')

  await writeFile(bundle, 'a longer one')
  await goOn(500)
  await goOn(200)
  t.equal(told, 3, 'what documents name counts too')

  await rename(folder, `${folder}-away`)
  await goOn(500)
  await goOn(200)
  t.equal(told, 4, 'a folder that went is told: whoever reads it learns why')
  await rename(`${folder}-away`, folder)
  await asleep()
  stop.abort()
  await t.rejects(following, { name: 'AbortError' })
})
