import { createHash } from 'node:crypto'
import {
  chmodSync, cpSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { FileSet } from '../../src/files/file-set.ts'
import { SetWriter } from '../../src/files/set-writer.ts'

const home = mkdtempSync(join(tmpdir(), 'assay-set-'))
t.teardown(() => rmSync(home, { recursive: true }))
let folders = 0

function newFolder (): string {
  const folder = join(home, String(folders++))
  mkdirSync(folder, { mode: 0o755 })
  return folder
}

/** A certificate and the key that belongs to it, as far as this test is concerned. */
function pair (name: string): FileSet {
  const mark = createHash('sha256').update(name).digest('hex')
  return new Map([
    ['svid.pem', { content: Buffer.from(`certificate ${mark}`), mode: 0o644 }],
    ['key.pem', { content: Buffer.from(`key ${mark}`), mode: 0o600 }],
    ['bundle.pem', { content: Buffer.from(`bundle ${mark}`), mode: 0o644 }]
  ])
}

/** What a program that starts now reads; `undefined` where there is no file. */
function read (folder: string, names: readonly string[] = ['svid.pem', 'key.pem', 'bundle.pem']): (string | undefined)[] {
  return names.map(name => existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8').split(' ')[1] : undefined)
}

const markOf = (name: string) => createHash('sha256').update(name).digest('hex')
const leftovers = (folder: string) => readdirSync(folder).filter(name => name.startsWith('..') && name !== '..data')

/** As a crash would leave it. */
function copyOf (folder: string): string {
  const copy = join(home, String(folders++))
  cpSync(folder, copy, { recursive: true, verbatimSymlinks: true })
  return copy
}

void t.test('a set is written with its modes, and changes in one step', async t => {
  const folder = newFolder()
  const writer = await SetWriter.open({ folder, owner: undefined })
  t.equal(await writer.write(pair('one')), true)
  t.same(read(folder), Array(3).fill(markOf('one')))
  t.same(['svid.pem', 'key.pem'].map(name => (statSync(join(folder, name)).mode & 0o777).toString(8)), ['644', '600'], 'whatever the umask')
  t.equal(await writer.write(pair('one')), false, 'the same again is no change')
  t.equal(await writer.write(pair('two')), true)
  t.same(read(folder), Array(3).fill(markOf('two')))
  t.equal(leftovers(folder).length, 2, 'the set before is left for whoever is reading it')
  await writer.prune()
  t.equal(leftovers(folder).length, 1, 'and its key is gone after that')

  const part: FileSet = new Map([...pair('three'), ['bundle.pem', undefined], ['token', { content: Buffer.from('jwt abc'), mode: 0o640 }]])
  await writer.write(part)
  t.same(read(folder, ['svid.pem', 'key.pem', 'bundle.pem', 'token']), [markOf('three'), markOf('three'), markOf('two'), 'abc'],
    'what is not known yet stays')
  chmodSync(join(folder, 'key.pem'), 0o644)
  t.equal(await writer.write(part), true, 'a mode that somebody changed is one')
  t.equal(statSync(join(folder, 'key.pem')).mode & 0o777, 0o600)
  await writer.write(pair('four'))
  t.notOk(readdirSync(folder).includes('token'), 'a name that is not wanted any more goes')
  await writer.remove(pair('four').keys())
  t.same(readdirSync(folder), [], 'all of it can be taken away')
})

for (const before of ['nothing', 'a set', 'files of spiffe-helper'] as const) {
  void t.test(`killed anywhere while ${before} was there, a pair that matches is left, and the next start goes on`, async t => {
    const folder = newFolder()
    if (before === 'a set') await (await SetWriter.open({ folder, owner: undefined })).write(pair('old'))
    if (before === 'files of spiffe-helper') for (const [name, file] of pair('old')) writeFileSync(join(folder, name), file?.content ?? '')
    const copies: [string, string][] = []
    const writer = await SetWriter.open({ folder, owner: undefined, onStep: what => { copies.push([what, copyOf(folder)]) } })
    await writer.write(pair('new'))
    t.ok(copies.length > 10, `${copies.length} steps`)
    const [none, old, fresh] = [undefined, markOf('old'), markOf('new')]
    const seen = new Set<string | undefined>()
    for (const [what, copy] of copies) {
      const [svid, ...others] = read(copy)
      seen.add(svid)
      t.ok([before === 'nothing' ? none : old, fresh].includes(svid), `after "${what}": the old or the new`)
      t.ok(others.every(other => other === svid), `after "${what}": all of one set`)
      const next = await SetWriter.open({ folder: copy, owner: undefined })
      const isUsed = svid !== undefined && existsSync(join(copy, '..data'))
      t.same(leftovers(copy).length, isUsed ? 1 : 0,
        `after "${what}": what the killed one left is removed at the start`)
      await next.write(pair('next'))
      t.same(read(copy), Array(3).fill(markOf('next')), `after "${what}": it goes on`)
    }
    t.equal(seen.size, 2, 'both sides of the change were looked at')
  })
}

void t.test('a disk that is full at any step leaves what was there, and is got over', async t => {
  const counting = newFolder()
  let steps = 0
  const counter = await SetWriter.open({ folder: counting, owner: undefined, onStep: () => { steps++ } })
  await counter.write(pair('old'))
  steps = 0
  await counter.write(pair('new'))
  t.ok(steps > 5)
  for (let failing = 0; failing < steps; failing++) {
    const folder = newFolder()
    let left = Infinity
    const onStep = () => { if (left-- === 0) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' }) }
    const writer = await SetWriter.open({ folder, owner: undefined, onStep })
    await writer.write(pair('old'))
    left = failing
    await t.rejects(writer.write(pair('new')), { code: 'files_not_written', message: /no space left/ })
    const [svid, ...others] = read(folder)
    t.ok([markOf('old'), markOf('new')].includes(svid ?? '') && others.every(other => other === svid), `step ${failing}: one set`)
    left = Infinity
    await writer.write(pair('new'))
    t.same(read(folder), Array(3).fill(markOf('new')))
    await writer.prune()
    t.equal(leftovers(folder).length, 1, 'nothing is left behind')
  }
})

void t.test('a set that is being written is not taken for one that is left over', async t => {
  const folder = newFolder()
  const pruning: Promise<void>[] = []
  const writer = await SetWriter.open({ folder, owner: undefined, onStep: () => { pruning.push(writer.prune()) } })
  for (const name of ['one', 'two', 'three']) {
    await writer.write(pair(name))
    await Promise.all(pruning.splice(0))
    t.same(read(folder), Array(3).fill(markOf(name)))
  }
})

void t.test('what is none of ours is left alone', async t => {
  const folder = newFolder()
  const writer = await SetWriter.open({ folder, owner: undefined })
  symlinkSync('/etc/passwd', join(folder, 'svid.pem'))
  await t.rejects(writer.write(pair('one')), { code: 'cert_dir_unsafe', message: /svid\.pem is neither a file nor a link of ours/ })
  t.equal(lstatSync(join(folder, 'svid.pem')).isSymbolicLink(), true)
  t.equal(existsSync(join(folder, 'key.pem')), false, 'and nothing was written beside it')
  rmSync(join(folder, 'svid.pem'))
  writeFileSync(join(folder, '..note'), 'x')
  await writer.write(pair('one'))
  t.ok(existsSync(join(folder, '..note')), 'nor is what only looks like ours removed')
})

void t.test('owners', { skip: process.getuid?.() !== 0 && 'only root may give files to others' }, async t => {
  const folder = newFolder()
  const writer = await SetWriter.open({ folder, owner: { uid: 12_345, gid: -1 } })
  await writer.write(pair('one'))
  t.match(statSync(join(folder, 'key.pem')), { uid: 12_345, gid: 0 })
  t.equal(await writer.write(pair('one')), false)
  const other = await SetWriter.open({ folder, owner: { uid: 12_345, gid: 54_321 } })
  t.equal(await other.write(pair('one')), true, 'another group is a change')
  t.match(statSync(join(folder, 'key.pem')), { uid: 12_345, gid: 54_321 })
})
