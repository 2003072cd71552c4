import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { codeOf } from '../../src/spiffe/errors.ts'
import { readContents } from '../../src/storage/backup/backup-contents.ts'
import { holds } from '../fakes/holds.ts'
import { backUp, everyDatabase, fill, newFile, withStore } from './backup-fixture.ts'

const [sqlite] = await everyDatabase(t)
const { signal } = new AbortController()

/** A whole backup, small enough to be broken a thousand times. */
async function smallBackup (t: Test): Promise<{ readonly bytes: Buffer, readonly file: string }> {
  if (sqlite === undefined) throw new Error('there is always SQLite')
  const [url, file] = [await sqlite.fresh(t), newFile(t)]
  await withStore(url, store => fill(store, 2))
  await backUp(url, file)
  return { bytes: readFileSync(file), file }
}

/** How reading ended: `read`, or the code of the refusal. What is no refusal is thrown on. */
async function outcomeOf (file: string, content: Uint8Array | string): Promise<string> {
  writeFileSync(file, content)
  try {
    await readContents(file, signal)
    return 'read'
  } catch (error) {
    const code = codeOf(error)
    if (code === undefined) throw error
    return code
  }
}

await t.test('no damaged backup is read, wherever the damage is', async t => {
  const { bytes } = await smallBackup(t)
  const file = newFile(t)
  t.equal(await outcomeOf(file, bytes), 'read', 'as it was written')
  const at = fc.nat({ max: bytes.length - 1 })
  const some = fc.uint8Array({ minLength: 1, maxLength: 20 })
  const damaged = fc.oneof(
    fc.tuple(at, fc.integer({ min: 1, max: 255 })).map(([index, bits]) => withByte(bytes, index, (bytes[index] ?? 0) ^ bits)),
    fc.tuple(at, some).map(([index, more]) => Buffer.concat([bytes.subarray(0, index), more, bytes.subarray(index)])),
    fc.tuple(at, fc.integer({ min: 1, max: 200 })).map(([index, length]) => without(bytes, index, index + length)),
    at.map(index => bytes.subarray(0, index)),
    some.map(more => Buffer.concat([bytes, more])),
    fc.tuple(at, at).map(([from, to]) => without(bytes, from, to))
  ).filter(changed => !changed.equals(bytes))
  await holds(t, 'byte by byte', fc.asyncProperty(damaged, async content => {
    const outcome = await outcomeOf(file, content)
    // One bit makes a 1 a 3: then it claims to be of a newer form, and is read no more than the others.
    return outcome === 'backup_malformed' || outcome === 'backup_newer'
  }), 1_500)

  const lines = bytes.toString().split(/(?<=\n)/)
  const line = fc.nat({ max: lines.length - 1 })
  const moved = fc.tuple(line, line).filter(([a, b]) => lines[a] !== lines[b]).map(([a, b]) => {
    const swapped = [...lines]
    swapped[a] = lines[b] as string
    swapped[b] = lines[a] as string
    return swapped.join('')
  })
  await holds(t, 'line by line', fc.asyncProperty(moved, async text => await outcomeOf(file, text) === 'backup_malformed'), 200)
})

await t.test('whatever the lines say, a file that fits its checksum is read or refused', async t => {
  const { bytes } = await smallBackup(t)
  const file = newFile(t)
  const lines = bytes.toString().split('\n').slice(0, -2)
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(null, 2 ** 53, -0, 'A', 'AA==', '[[', '\0', '\ud800'))
  const forgedLine = fc.tuple(fc.nat({ max: lines.length - 1 }), fc.nat({ max: 30 }), value).map(([index, place, put]) => {
    const row = JSON.parse(lines[index] as string) as unknown
    const forged = Array.isArray(row)
      ? row.toSpliced(place % (row.length + 1), place > 25 ? 0 : 1, put)
      : { ...row as object, [Object.keys(row as object)[place % Object.keys(row as object).length] as string]: put }
    return lines.with(index, JSON.stringify(forged))
  })
  const anything = fc.array(fc.jsonValue().map(json => JSON.stringify(json)))
  const forged = fc.oneof(forgedLine, fc.subarray(lines), fc.shuffledSubarray(lines), anything)
  const outcomes = new Set<string>()
  await holds(t, 'no crash', fc.asyncProperty(forged, async changed => {
    const body = changed.map(line => `${line}\n`).join('')
    outcomes.add(await outcomeOf(file, `${body}{"sha256":"${createHash('sha256').update(body).digest('hex')}"}\n`))
    return true
  }), 1_500)
  t.strictSame([...outcomes].filter(outcome => !['read', 'backup_malformed', 'backup_newer'].includes(outcome)), [])
  t.ok(outcomes.has('read') && outcomes.has('backup_malformed'), 'both happened')
})

function withByte (bytes: Buffer, index: number, byte: number): Buffer {
  const changed = Buffer.from(bytes)
  changed[index] = byte
  return changed
}

function without (bytes: Buffer, from: number, to: number): Buffer { return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]) }
