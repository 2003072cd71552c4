import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { CacheFile } from '../../src/agent/cache/cache-file.ts'
import type { NodeCache } from '../../src/agent/cache/node-cache.ts'
import { usableCache } from '../../src/agent/cache/usable-cache.ts'
import { fileSealingPlugin } from '../../src/agent/sealing/file-sealing-plugin.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf, makeEntry } from '../fakes/entries.ts'
import { makeEndpoint, makeService } from '../fakes/services.ts'

const domain = parseTrustDomain('example.org')
const agentId = idOf('/spire/agent/join_token/node')
const { log, lines } = capturedLog()
const authority = await createTestAuthority(domain, { notBefore: new Date('2026-01-01'), notAfter: new Date('2027-01-01') })

function cacheOf (more: Partial<NodeCache> = {}): NodeCache {
  return {
    agentId,
    generation: 7,
    writtenAt: new Date('2026-05-01T00:00:00Z'),
    heardAt: new Date('2026-05-01T00:00:00Z'),
    cursor: { epoch: 'first', number: 12 },
    entries: [
      makeEntry({ id: 'a', spiffeId: '/a', hint: 'main', federatesWith: [parseTrustDomain('partner.test')] }), makeEntry({ id: 'b' })
    ],
    bundles: [{ ...authority.bundle, sequenceNumber: 3n }],
    svids: [{
      entryId: 'a',
      chain: [authority.bundle.x509Authorities[0]?.certificate ?? new Uint8Array()],
      privateKey: Buffer.from('a workload\'s private key'),
      receivedAtMs: 1,
      renewAtMs: 2.5
    }],
    revocations: [{
      id: 'r', kind: 'svid', subject: idOf('/bad'), certificateDigests: ['ab'.repeat(32)], expiresAt: new Date('2026-05-02T00:00:00Z')
    }],
    ...more
  }
}

async function setUp () {
  const folder = t.testdir({})
  const sealing = await fileSealingPlugin.start({}, { dataDir: folder }, AbortSignal.timeout(60_000))
  const file = new CacheFile(join(folder, 'agent-cache'), sealing, domain)
  await file.write(cacheOf())
  return { folder, sealing, file, keyFile: join(folder, 'agent-cache.key') }
}

const termsAt = (now: string, more: { generation?: number } = {}) =>
  ({ agentId, generation: more.generation ?? 7, maxAgeMs: 3_600_000, clock: new ManualClock(now) })

/** The codes of the warnings since the last call. */
const warnings = () => lines.splice(0).map(({ code }) => code)

await t.test('what is written is read, and shows nothing to who has the file alone', async t => {
  const { folder, file, keyFile } = await setUp()
  const read = await file.read()
  const svids = [{ entryId: 'a', receivedAtMs: 1, renewAtMs: 2.5 }]
  t.match(read, { ...cacheOf(), bundles: [{ sequenceNumber: 3n, trustDomain: domain }], svids })
  t.same(Buffer.from(read?.svids[0]?.privateKey ?? ''), cacheOf().svids[0]?.privateKey)
  for (const path of [file.path, keyFile]) t.equal((await stat(path)).mode & 0o777, 0o600)
  const bytes = await readFile(file.path, 'latin1')
  const secrets = ['private key', Buffer.from('a workload\'s private key').toString('base64'), 'example.org/a']
  for (const secret of secrets) t.notOk(bytes.includes(secret), secret)

  await writeFile(keyFile, Buffer.alloc(32), { mode: 0o600 })
  const other = await fileSealingPlugin.start({}, { dataDir: folder }, AbortSignal.timeout(60_000))
  await t.rejects(new CacheFile(file.path, other, domain).read(), { code: 'cache_unusable' }, 'another key')
  await t.rejects(new CacheFile(file.path, other, parseTrustDomain('other.org')).read(), { code: 'cache_unusable' }, 'another trust domain')
})

await t.test('services and their endpoints are kept too', async t => {
  const { file } = await setUp()
  t.equal((await file.read())?.mesh, undefined, 'of a node that has none to do with')
  const mesh = { services: [makeService({ callers: ['spiffe://example.org/shop/*'] })], endpoints: [makeEndpoint('a')] }
  await file.write(cacheOf({ mesh }))
  t.strictSame((await file.read())?.mesh, mesh)
  await file.write(cacheOf({ mesh: { services: [], endpoints: [] } }))
  t.strictSame((await file.read())?.mesh, { services: [], endpoints: [] }, 'none is not the same as nothing known')
})

await t.test('a cache that was changed or cut anywhere is not used, and does no harm', async t => {
  const { file } = await setUp()
  const whole = await readFile(file.path)
  const terms = termsAt('2026-05-01T00:00:01Z')
  t.ok(await usableCache(file, terms, log), 'as it was written it is used')
  const changed = fc.oneof(
    fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, bits]) => {
      const bytes = Buffer.from(whole)
      bytes[at] = (bytes[at] ?? 0) ^ bits
      return bytes
    }),
    fc.nat(whole.length - 1).map(length => whole.subarray(0, length)),
    fc.uint8Array({ minLength: 1, maxLength: 200 }).map(more => Buffer.concat([whole, more])),
    fc.uint8Array({ maxLength: 500 }).map(bytes => Buffer.from(bytes))
  )
  await fc.assert(fc.asyncProperty(changed, async bytes => {
    await writeFile(file.path, bytes)
    lines.splice(0)
    return await usableCache(file, terms, log) === undefined && warnings().join() === 'cache_unusable'
  }), { numRuns: 300 })
  // Its beginning and its end, byte by byte: mark, nonce, first block, tag.
  for (const at of [...Array(80).keys(), ...Array.from({ length: 20 }, (_, index) => whole.length - 1 - index)]) {
    const bytes = Buffer.from(whole)
    bytes[at] = (bytes[at] ?? 0) ^ 1
    await writeFile(file.path, bytes)
    if (await usableCache(file, terms, log) !== undefined) t.fail(`changed at ${at} it was used`)
  }
  t.ok(warnings().every(code => code === 'cache_unusable'))
})

await t.test('sealed well, but content that no agent wrote', async t => {
  const { file, sealing } = await setUp()
  const context = 'assay agent cache 1\nexample.org'
  await fc.assert(fc.asyncProperty(fc.oneof(fc.json(), fc.string()), async text => {
    await writeFile(file.path, Buffer.concat([Buffer.from('assay agent cache 1\n'), await sealing.seal(Buffer.from(text), context)]))
    return await usableCache(file, termsAt('2026-05-01T00:00:01Z'), log) === undefined && warnings().join() === 'cache_unusable'
  }), { numRuns: 100 })
  t.pass('is not used')
})

await t.test('which cache may be used', async t => {
  const { file } = await setUp()
  const tried = async (terms: Parameters<typeof usableCache>[1]) => [await usableCache(file, terms, log) !== undefined, ...warnings()]
  warnings()
  t.same(await tried(termsAt('2026-05-01T00:59:59Z')), [true], 'one of the last hour')
  t.same(await tried(termsAt('2026-05-01T00:59:59Z', { generation: 6 })), [true], 'one that the agent wrote and then died')
  t.same(await tried(termsAt('2026-05-01T01:00:00Z')), [false, 'cache_too_old'])
  t.same(await tried(termsAt('2026-05-01T00:00:01Z', { generation: 8 })), [false, 'cache_rolled_back'], 'one that was put back')
  const another = { ...termsAt('2026-05-01T00:00:01Z'), agentId: idOf('/spire/agent/x') }
  t.same(await tried(another), [false, 'cache_unusable'], 'another agent\'s')
  await rm(file.path)
  t.same(await tried(termsAt('2026-05-01T00:00:01Z')), [false], 'none is nothing to warn of')
  await mkdir(file.path)
  t.same(await tried(termsAt('2026-05-01T00:00:01Z')), [false, 'file_unusable'])
})

await t.test('a key file that others can read is not used', async t => {
  const { folder, file, keyFile } = await setUp()
  await rm(keyFile)
  await writeFile(keyFile, Buffer.alloc(32), { mode: 0o644 })
  const sealing = await fileSealingPlugin.start({}, { dataDir: folder }, AbortSignal.timeout(60_000))
  await t.rejects(new CacheFile(file.path, sealing, domain).write(cacheOf()), { code: 'file_unusable', message: /mode 0600/ })
  await rm(keyFile)
  await t.rejects(new CacheFile(file.path, sealing, domain).read(), { code: 'cache_unusable', message: /not there any more/ })
})
