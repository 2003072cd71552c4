import type { Test } from 'tap'
import { codeOf } from '../../src/spiffe/errors.ts'
import { policyHistoryLength } from '../../src/spiffe/policy-version.ts'
import { makePolicyDraft } from '../fakes/policies.ts'
import { now, openFresh, type DatabaseKind } from './fixture.ts'

export async function policyContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('a set of policies comes back as it was given, and is active as a whole', async t => {
    const { store: { policies } } = await openFresh(t, database)
    t.strictSame([await policies.active(), await policies.get(1), await policies.list()], [undefined, undefined, []])
    const draft = { ...makePolicyDraft(['ä"\\\n\u{1F600}', '', '{}']), comment: 'why', selectors: [['k8s:ns:a', 'unix:uid:1'], ['x:y']] }
    const { version, changed } = await policies.apply(draft, 0)
    t.ok(changed)
    t.strictSame(version, { ...draft, number: 1, parent: 0, appliedAt: now, documents: 3, bytes: 29 })
    t.strictSame(await policies.active(), version)
    t.strictSame(await policies.get(1), version)
    const { version: second } = await policies.apply(makePolicyDraft(['only this']), 1)
    t.strictSame((await policies.active())?.texts, [{ name: '0.yaml', text: 'only this' }], 'nothing of the one before is in it')
    const { texts: _, ...facts } = second
    t.match(facts, { number: 2, parent: 1 })
    const { texts: __, ...older } = version
    t.strictSame(await policies.list(), [facts, older])
  })

  await t.test('who replaces what is not active any more is told so, and changes nothing', async t => {
    const { store: { policies } } = await openFresh(t, database)
    await policies.apply(makePolicyDraft(['a']), 0)
    await policies.apply(makePolicyDraft(['b']), 1)
    for (const replaces of [0, 1, 3]) {
      await t.rejects(policies.apply(makePolicyDraft(['c']), replaces), {
        code: 'policy_conflict', message: /^version 2 of a test, applied .*Z, is active, and (none|version \d) was to be replaced$/
      })
    }
    t.equal((await policies.list()).length, 2)
    t.match(await policies.apply(makePolicyDraft(['b']), 2), { changed: false, version: { number: 2 } }, 'the same once more is no version')
    t.match(await policies.apply(makePolicyDraft(['a']), 2), { changed: true, version: { number: 3, parent: 2 } }, 'one from before is')
  })

  await t.test('of many that replace one version at once, one does', async t => {
    const { store: { policies } } = await openFresh(t, database)
    await policies.apply(makePolicyDraft(['a']), 0)
    const outcomes = await Promise.all(Array.from({ length: 10 }, (_, n) =>
      policies.apply(makePolicyDraft([`of ${n}`]), 1).catch((error: unknown) => error)))
    t.equal(outcomes.map(codeOf).filter(code => code === 'policy_conflict').length, 9)
    t.equal((await policies.active())?.number, 2)
  })

  await t.test('the last hundred versions are remembered', async t => {
    const { store: { policies } } = await openFresh(t, database)
    for (let n = 0; n < policyHistoryLength + 3; n++) await policies.apply(makePolicyDraft([`${n}`]), n)
    const numbers = (await policies.list()).map(({ number }) => number)
    t.strictSame([numbers.length, numbers[0], numbers.at(-1)], [policyHistoryLength, policyHistoryLength + 3, 4])
    t.equal(await policies.get(3), undefined)
    t.equal((await policies.get(4))?.texts[0]?.text, '3')
  })
}
