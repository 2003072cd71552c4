import type { Test } from 'tap'
import { codeOf } from '../../src/spiffe/errors.ts'
import { agent, draft, id, now, openFresh, selectors, type DatabaseKind } from './fixture.ts'

const soon = new Date(now.getTime() + 60_000)

export async function agentContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('attestation writes the agent, again and again', async t => {
    const { store } = await openFresh(t, database)
    const first = agent('n', { selectors: selectors('b:1', 'a:1', 'b:1'), canReattest: true, agentVersion: '1.0' })
    const stored = await store.agents.attest(first)
    t.strictSame(stored, { ...first, selectors: selectors('a:1', 'b:1') }, 'selectors normalised')
    t.strictSame(await store.agents.get(stored.id), stored)
    t.equal(await store.agents.get(id('/spire/agent/x/unknown')), undefined)
    await store.agents.setNewSerial(stored.id, 'b2', soon)
    const again = await store.agents.attest(agent('n', { serialNumber: 'c3', selectors: selectors('c:1') }))
    t.strictSame(again, agent('n', { serialNumber: 'c3', selectors: selectors('c:1'), agentVersion: '1.0' }),
      'selectors replaced, new serial number forgotten, version kept')
    t.equal(await store.agents.count({ selectors: { match: 'any', values: selectors('a:1') } }), 0)
    t.equal(await store.agents.count({}), 1)
    const seen = []
    for await (const one of store.agents.all()) seen.push(one)
    t.strictSame(seen, [again])
  })

  await t.test('who is trusted on first use attests once, until it is evicted', async t => {
    const { store } = await openFresh(t, database)
    const once = (serialNumber: string) => store.agents.attest(agent('n', { serialNumber }), { onlyOnce: true })
    const attempts = await Promise.allSettled(Array.from({ length: 10 }, (_, n) => once(`a${n}`)))
    const refusals = attempts.flatMap(attempt => attempt.status === 'rejected' ? [codeOf(attempt.reason)] : [])
    t.strictSame(refusals, Array.from({ length: 9 }, () => 'attestation_refused'), 'of 10 at once exactly one succeeds')
    await t.rejects(once('b1'), { code: 'attestation_refused', message: /already been used to attest an agent/ })
    await store.agents.delete(agent('n').id)
    t.match(await once('b2'), { serialNumber: 'b2' })
    await store.agents.ban(agent('n').id)
    await t.rejects(once('b3'), { code: 'agent_banned' })
  })

  await t.test('what is changed at the same time is written together, and refused one by one', async t => {
    const { store } = await openFresh(t, database)
    const ids = Array.from({ length: 20 }, (_, n) => agent(`n${n}`).id)
    for (const [n] of ids.entries()) await store.agents.attest(agent(`n${n}`))
    await store.agents.ban(ids[3]!)
    const before = await store.log.head()
    const outcomes = await Promise.allSettled([
      ...ids.map((id, n) => store.agents.setNewSerial(id, `b${n}`, soon)),
      store.agents.promoteSerial(ids[0]!, 'b0'),
      store.agents.setVersion(ids[0]!, '2.0'),
      store.agents.setVersion(id('/spire/agent/x/unknown'), '2.0')
    ])
    t.strictSame(outcomes.flatMap((outcome, n) => outcome.status === 'rejected' ? [[n, codeOf(outcome.reason)]] : []),
      [[3, 'agent_banned'], [22, 'agent_not_found']])
    t.match(await store.agents.get(ids[0]!), { serialNumber: 'b0', newSerialNumber: undefined, agentVersion: '2.0' },
      'changes of one agent come one after the other')
    t.match(await store.agents.get(ids[19]!), { newSerialNumber: 'b19', newExpiresAt: soon })
    const { number } = await store.log.head()
    t.ok(number - before.number <= 2, `${number - before.number} numbers of the log for 21 changes`)
    const reading = await store.log.read(before)
    t.equal(reading.kind === 'changes' && reading.state.agents.size, 19, 'the log names each agent that changed')
  })

  await t.test('a join token lets one agent in, once', async t => {
    const { store, clock } = await openFresh(t, database)
    await store.joinTokens.create('secret-token', soon)
    await t.rejects(store.joinTokens.create('secret-token', soon), { code: 'join_token_exists' })
    await t.rejects(store.joinTokens.create('', soon), { code: 'argument_invalid' })
    await store.joinTokens.check('secret-token', now)
    await store.joinTokens.check('secret-token', now)
    await t.rejects(store.joinTokens.check('other', now),
      { code: 'join_token_invalid', message: 'join token does not exist or has already been used' })
    await t.rejects(store.joinTokens.check('secret-token', soon), { code: 'join_token_invalid', message: 'join token expired' })
    const attempts = await Promise.allSettled(Array.from({ length: 50 }, (_, n) =>
      store.agents.attest(agent(`n${n}`), { joinToken: 'secret-token' })))
    const refusals = attempts.flatMap(attempt => attempt.status === 'rejected' ? [codeOf(attempt.reason)] : [])
    t.strictSame(refusals, Array.from({ length: 49 }, () => 'join_token_invalid'), 'of 50 at once exactly one succeeds')
    t.equal(await store.agents.count({}), 1)
    await t.rejects(store.joinTokens.check('secret-token', now), { code: 'join_token_invalid' })

    await store.joinTokens.create('late', soon)
    await clock.advance(60_000)
    const late = store.agents.attest(agent('late'), { joinToken: 'late' })
    await t.rejects(late, { code: 'join_token_invalid', message: 'join token expired' })
    t.equal(await store.agents.get(agent('late').id), undefined)
    await store.joinTokens.create('fresh', new Date(soon.getTime() + 1))
    t.equal(await store.joinTokens.prune(soon), 1, 'the expired one')
    await store.joinTokens.check('fresh', soon)
  })

  await t.test('those that attest at the same time are one change, and what refuses one refuses it alone', async t => {
    const { store, clock } = await openFresh(t, database)
    await store.agents.attest(agent('gone'))
    await store.agents.ban(agent('gone').id)
    for (const token of ['a', 'b', 'gone']) await store.joinTokens.create(token, soon)
    await store.joinTokens.create('late', new Date(now.getTime() + 1))
    await clock.advance(1)
    const before = await store.log.head()
    const outcomes = await Promise.allSettled([
      store.agents.attest(agent('b'), { joinToken: 'b' }), store.agents.attest(agent('none'), { joinToken: 'none' }),
      store.agents.attest(agent('late'), { joinToken: 'late' }), store.agents.attest(agent('gone'), { joinToken: 'gone' }),
      store.agents.attest(agent('odd', { agentVersion: 'v'.repeat(256) }), { joinToken: 'gone' }),
      store.agents.attest(agent('a'), { joinToken: 'a' }), store.agents.attest(agent('c'), { onlyOnce: true }),
      store.agents.attest(agent('c', { serialNumber: 'second' }), { onlyOnce: true })
    ])
    t.strictSame(outcomes.map(outcome => outcome.status === 'fulfilled' ? outcome.value.id : codeOf(outcome.reason)), [
      agent('b').id, 'join_token_invalid', 'join_token_invalid', 'agent_banned', 'argument_invalid', agent('a').id, agent('c').id,
      'attestation_refused'
    ])
    t.equal((await store.log.head()).number, before.number + 1)
    t.equal(await store.agents.count({ banned: false }), 3)
    t.match(await store.agents.get(agent('c').id), { serialNumber: agent('c').serialNumber }, 'the first of two')
    await store.joinTokens.check('gone', clock.now())
    await t.rejects(store.joinTokens.check('a', clock.now()), { code: 'join_token_invalid' })
    await t.rejects(store.joinTokens.check('late', clock.now()), { message: 'join token expired' }, 'it is as it was')
  })

  await t.test('a stolen database lets nobody in', async t => {
    const { store, url } = await openFresh(t, database)
    await store.joinTokens.create('2f6e0b52-secret-9c1d', soon)
    const dump = JSON.stringify(await database.execute(url, 'select * from join_tokens'))
    t.ok(dump.length > 10, 'there is a row')
    const stolen = Buffer.from('2f6e0b52-secret-9c1d')
    for (const form of ['2f6e0b52-secret-9c1d', stolen.toString('hex'), stolen.toString('base64'), [...stolen].join(',')]) {
      t.notOk(dump.includes(form), 'the token is not in it')
    }
  })

  await t.test('a ban holds', async t => {
    const { store } = await openFresh(t, database)
    const { id: agentId } = await store.agents.attest(agent('n'))
    await store.agents.setNewSerial(agentId, 'b2', soon)
    const banned = await store.agents.ban(agentId)
    t.strictSame(banned, agent('n', { serialNumber: '', banned: true }), 'both serial numbers are blank')
    t.strictSame(await store.agents.get(agentId), banned)
    await store.joinTokens.create('token', soon)
    await t.rejects(store.agents.attest(agent('n'), { joinToken: 'token' }), { code: 'agent_banned' })
    await store.joinTokens.check('token', now)
    t.pass('the token was not taken: both or neither')
    await t.rejects(store.agents.setNewSerial(agentId, 'c3', soon), { code: 'agent_banned' })
    await t.rejects(store.agents.promoteSerial(agentId, 'b2'), { code: 'agent_banned' })
    await t.rejects(store.agents.promoteSerial(agentId, ''), { code: 'agent_banned' }, 'a blank serial number is nobody\'s')
    t.strictSame(await store.agents.ban(agentId), banned, 'twice is as once')
    await store.agents.delete(agentId)
    t.equal((await store.agents.attest(agent('n'), { joinToken: 'token' })).banned, false, 'evicted, it may attest again')
  })

  await t.test('a renewed SVID becomes the current one when it is used', async t => {
    const { store } = await openFresh(t, database)
    const { id: agentId } = await store.agents.attest(agent('n'))
    const renewed = await store.agents.setNewSerial(agentId, 'b2', soon)
    t.strictSame(renewed, agent('n', { newSerialNumber: 'b2', newExpiresAt: soon }))
    await t.rejects(store.agents.promoteSerial(agentId, 'zz'), { code: 'agent_not_active' })
    const promoted = agent('n', { serialNumber: 'b2', expiresAt: soon })
    t.strictSame(await store.agents.promoteSerial(agentId, 'b2'), promoted)
    t.strictSame(await store.agents.promoteSerial(agentId, 'b2'), promoted, 'twice is as once')
    t.strictSame(await store.agents.get(agentId), promoted)
    await t.rejects(store.agents.promoteSerial(agentId, 'a1'), { code: 'agent_not_active' }, 'the old one is gone')
  })

  await t.test('unknown agents and bad versions are refused', async t => {
    const { store } = await openFresh(t, database)
    const unknown = agent('unknown').id
    const { agents } = store
    const calls: ReadonlyArray<() => Promise<unknown>> = [
      () => agents.delete(unknown), () => agents.ban(unknown), () => agents.setNewSerial(unknown, 'a', soon),
      () => agents.promoteSerial(unknown, 'a'), () => agents.setVersion(unknown, '1')
    ]
    for (const call of calls) await t.rejects(call(), { code: 'agent_not_found', message: 'agent not found' })
    const { id: agentId } = await agents.attest(agent('n'))
    t.equal((await agents.setVersion(agentId, 'v'.repeat(255))).agentVersion.length, 255)
    await t.rejects(agents.setVersion(agentId, 'v'.repeat(256)), { code: 'argument_invalid' })
    await t.rejects(agents.setVersion(agentId, '\0'), { code: 'argument_invalid' })
  })

  await t.test('eviction takes the aliases of the join token along', async t => {
    const { store } = await openFresh(t, database)
    const { id: agentId } = await store.agents.attest(agent('n'))
    const other = agent('other').id
    await store.entries.createMany([
      draft('alias', { id: 'alias', parentId: agentId, selectors: selectors(`spiffe_id:${agentId}`) }),
      draft('workload', { id: 'workload', parentId: agentId }),
      draft('wider', { id: 'wider', parentId: agentId, selectors: selectors(`spiffe_id:${agentId}`, 'unix:uid:1') }),
      draft('others', { id: 'others', parentId: other, selectors: selectors(`spiffe_id:${other}`) }),
      draft('crossed', { id: 'crossed', parentId: other, selectors: selectors(`spiffe_id:${agentId}`) })
    ])
    const removal = await store.agents.delete(agentId)
    t.strictSame(removal.agent, agent('n'))
    t.strictSame(removal.entries.map(entry => entry.id), ['alias'])
    t.strictSame((await store.entries.getMany(['alias', 'workload', 'wider', 'others', 'crossed'])).map(entry => entry.id),
      ['workload', 'wider', 'others', 'crossed'])
  })

  await t.test('pruning removes expired agents, never bans', async t => {
    const { store } = await openFresh(t, database)
    const past = new Date(now.getTime() - 1)
    const rows = {
      fresh: { expiresAt: now, canReattest: true },
      expired: { expiresAt: past, canReattest: true },
      tofu: { expiresAt: past, canReattest: false },
      banned: { expiresAt: past, canReattest: true },
      renewed: { expiresAt: past, canReattest: true }
    }
    for (const [name, rest] of Object.entries(rows)) await store.agents.attest(agent(name, rest))
    await store.agents.ban(agent('banned').id)
    await store.agents.setNewSerial(agent('renewed').id, 'b2', soon)
    const parentId = agent('expired').id
    await store.entries.createMany([draft('alias', { id: 'alias', parentId, selectors: selectors(`spiffe_id:${parentId}`) })])
    const prune = async (pruning: { includeTofu: boolean, limit?: number }) =>
      (await store.agents.deleteExpired(now, pruning)).map(({ agent, entries }) =>
        [agent.id.split('/').at(-1), ...entries.map(entry => entry.id)])
    t.strictSame(await prune({ includeTofu: true, limit: 1 }), [['expired', 'alias']], 'no more than asked')
    t.strictSame(await prune({ includeTofu: false }), [])
    t.strictSame(await prune({ includeTofu: true }), [['tofu']])
    t.equal(await store.agents.count({}), 3)
    t.equal(await store.entries.count({}), 0)
  })
}
