import fc from 'fast-check'
import { createHash } from 'node:crypto'
import { readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { FileDigests, type HashableFile } from '../../src/attestation/workload/unix/file-digest.ts'
import { NameFile, parseNames } from '../../src/attestation/workload/unix/name-file.ts'
import { parseProcessStatus } from '../../src/attestation/workload/unix/process-status.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { ManualClock, settle, until } from '../fakes/clock.ts'

const refusal = { code: 'workload_attestation_failed' }
const signal = new AbortController().signal

function statusWith ({ name = 'cat', uid = '1\t2\t3\t4', gid = '5\t6\t7\t8', groups = '4 24 ', more = '' } = {}): string {
  const before = `Name:\t${name}\nUmask:\t0022\nState:\tR (running)\n`
  return `${before}Uid:\t${uid}\nGid:\t${gid}\nFDSize:\t256\nGroups:\t${groups}\n${more}NStgid:\t7\n`
}

t.test('process status', async t => {
  t.strictSame(parseProcessStatus(statusWith()), { effectiveUid: 2, effectiveGid: 6, groups: [4, 24] })
  t.strictSame(parseProcessStatus(statusWith({ groups: ' ' })).groups, [])
  t.strictSame(parseProcessStatus(statusWith({ groups: '' })).groups, [])
  t.equal(parseProcessStatus(statusWith({ uid: '0\t4294967295\t0\t0' })).effectiveUid, 4_294_967_295)
  t.equal(parseProcessStatus(readFileSync('/proc/self/status', 'latin1')).effectiveUid, process.geteuid?.(), 'the real thing')
  t.equal(parseProcessStatus(statusWith({ name: 'Uid:\\n\\tUid:\\t0' })).effectiveUid, 2, 'a hostile name, as the kernel escapes it')
  for (const [what, text] of Object.entries({
    'nothing': '',
    'no user': statusWith().replace('Uid', 'Xid'),
    'no groups': statusWith().replace('Groups', 'groups'),
    'two users': statusWith({ more: 'Uid:\t0\t0\t0\t0\n' }),
    'three numbers': statusWith({ uid: '1\t2\t3' }),
    'five numbers': statusWith({ gid: '1\t2\t3\t4\t5' }),
    'a negative number': statusWith({ uid: '1\t-2\t3\t4' }),
    'a number above 32 bits': statusWith({ uid: '1\t4294967296\t3\t4' }),
    'a word': statusWith({ groups: '4 root' }),
    'hexadecimal': statusWith({ groups: '0x4' })
  })) t.throws(() => parseProcessStatus(text), refusal, what)
})

t.test('process status, any text', async t => {
  const id = fc.nat(0xffff_ffff)
  fc.assert(fc.property(id, id, fc.array(id, { maxLength: 40 }), fc.string(), (uid, gid, groups, name) => {
    const ids = { uid: `9\t${uid}\t9\t9`, gid: `9\t${gid}\t9\t9`, groups: `${groups.join(' ')} ` }
    const text = statusWith({ name: name.replaceAll('\n', '\\n'), ...ids })
    t.strictSame(parseProcessStatus(text), { effectiveUid: uid, effectiveGid: gid, groups })
  }), { numRuns: 200 })
  const noise = fc.stringMatching(/^(Uid:|Gid:|Groups:|[\t\n 0-9a-]){0,60}$/)
  fc.assert(fc.property(fc.oneof(noise, fc.string({ unit: 'binary' })), text => {
    try {
      const { effectiveUid, effectiveGid, groups } = parseProcessStatus(text)
      return [effectiveUid, effectiveGid, ...groups].every(id => Number.isInteger(id) && id >= 0 && id <= 0xffff_ffff)
    } catch (error) {
      return codeOf(error) === 'workload_attestation_failed'
    }
  }), { numRuns: 2_000 })
  fc.assert(fc.property(fc.nat(), fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }), (seed, insert) => {
    const text = statusWith()
    const at = seed % text.length
    try {
      parseProcessStatus(text.slice(0, at) + insert + text.slice(at + 1))
      return true
    } catch (error) {
      return codeOf(error) === 'workload_attestation_failed'
    }
  }), { numRuns: 2_000 })
})

t.test('names', async t => {
  const names = parseNames(['root:x:0:0:root:/root:/bin/bash', 'toor:x:0:0::/:', '# comment:x:5:', '+nis:x:6:', '-x:x:7:', '',
    'short:x:8', ':x:9:', 'word:x:ten:', 'minus:x:-1:', 'a b:x:11:', 'last:x:12:12'].join('\n'))
  t.strictSame([...names], [[0, 'root'], [11, 'a b'], [12, 'last']], 'the first name of a number; other lines passed over')

  const path = join(t.testdir({}), 'group')
  const file = new NameFile(path)
  t.strictSame([...await file.names()], [], 'no file, no names')
  writeFileSync(path, 'adm:x:4:\n')
  t.strictSame([...await file.names()], [[4, 'adm']])
  writeFileSync(`${path}.new`, 'dma:x:4:\n')
  renameSync(`${path}.new`, path)
  t.strictSame([...await file.names()], [[4, 'dma']], 'a replaced file is read again')
  await t.rejects(new NameFile(t.testdirName).names(), { code: 'EISDIR' }, 'unreadable is not the same as absent')
})

/** Counts what is read of a file. */
async function opened (path: string, reads: string[]): Promise<HashableFile> {
  const file = await open(path)
  return {
    stat: file.stat.bind(file),
    close: () => { reads.push('close'); return file.close() },
    read: ((...args: Parameters<typeof file.read>) => { reads.push('read'); return file.read(...args) })
  }
}

t.test('digests of files', async t => {
  const path = join(t.testdir({}), 'file')
  const content = Buffer.alloc(600_000, 'x')
  const expected = createHash('sha256').update(content).digest('hex')
  writeFileSync(path, content)
  const now = Date.now()
  const reads: string[] = []
  const count = () => { const { length } = reads.filter(event => event === 'read'); reads.length = 0; return length }

  const young = new FileDigests(new ManualClock(new Date(now)))
  t.equal(await young.sha256(await opened(path, reads), signal), expected)
  t.ok(count() > 2, 'read in pieces')
  t.equal(await young.sha256(await opened(path, reads), signal), expected)
  t.ok(count() > 2, 'a file changed just now is read each time: it might change again within one time stamp')

  const digests = new FileDigests(new ManualClock(new Date(now + 60_000)))
  const together = await Promise.all(Array.from({ length: 5 }, async () => digests.sha256(await opened(path, reads), signal)))
  t.strictSame(together, Array(5).fill(expected))
  t.equal(reads.filter(event => event === 'close').length, 5, 'every file is closed')
  t.equal(count(), 4, 'read once for all who ask at the same time')
  t.equal(await digests.sha256(await opened(path, reads), signal), expected)
  t.equal(count(), 0, 'and not again')

  writeFileSync(path, Buffer.alloc(600_000, 'y'))
  utimesSync(path, new Date(now), new Date(now))
  const changed = createHash('sha256').update(readFileSync(path)).digest('hex')
  t.equal(await digests.sha256(await opened(path, reads), signal), changed, 'same size, and a time set back: its change time tells')
})

t.test('a file that changes while it is read has no digest', async t => {
  const path = join(t.testdir({ file: 'a'.repeat(10) }), 'file')
  const file = await opened(path, [])
  const changing: HashableFile = {
    ...file,
    read: (...args: never[]) => { writeFileSync(path, 'longer than before'); return file.read(...args) }
  }
  await t.rejects(new FileDigests(new ManualClock()).sha256(changing, signal), { code: 'workload_attestation_failed' })
})

t.test('a reading ends when nobody waits for it any more', async t => {
  const path = join(t.testdir({ file: 'content' }), 'file')
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const reads: string[] = []
  const slow = async (): Promise<HashableFile> => {
    const file = await opened(path, reads)
    return { ...file, read: (async (...args: never[]) => { await held; return await file.read(...args) }) }
  }
  const digests = new FileDigests(new ManualClock())
  const [first, second] = [new AbortController(), new AbortController()]
  const ask = async (signal: AbortSignal) => digests.sha256(await slow(), signal)
  const outcomes = [first, second].map(({ signal }) => ask(signal).then(() => 'ok', (error: Error) => error.message))
  await settle()
  first.abort(new Error('first left'))
  t.equal(await outcomes[0], 'first left', 'whoever leaves does not wait')
  second.abort(new Error('second left'))
  t.equal(await outcomes[1], 'second left')
  const third = digests.sha256(await opened(path, reads), signal)
  release()
  t.equal(await third, createHash('sha256').update('content').digest('hex'), 'the next one starts afresh')
  // What nobody waits for any more is read to its end by threads of its own.
  const closed = () => reads.filter(event => event === 'close').length
  await until(() => closed() >= 3)
  t.equal(closed(), 3, 'every file is closed')
})
