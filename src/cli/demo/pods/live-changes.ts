import type { Seen } from './call-watch.ts'
import { idOf, registrationOf, startWorkload, type PodMesh, type PodMeshDeps } from './pod-mesh.ts'

/** What the lists of callers allow at first; whatever else is called is refused. */
const allowedAtFirst = ['web api', 'api db', 'batch db']
const pairs = ['web api', 'batch api', 'db api', 'web db', 'batch db', 'api db']

export async function untilCallsAreAsListed ({ calls }: PodMesh, signal: AbortSignal): Promise<void> {
  await calls.until('each call to be allowed or refused as listed, and seen as who made it', seen => pairs.every(pair => {
    const [from = '', to = ''] = pair.split(' ')
    return isSeen(seen, from, to, allowedAtFirst.includes(pair), idOf(from))
  }), signal)
}

/** Changes as an operator makes them; nothing is restarted. */
export async function showChanges (mesh: PodMesh, deps: PodMeshDeps): Promise<void> {
  const { operator, services, calls, entries } = mesh
  const { nodes: [one], steps, clock, signal } = deps
  const change = (title: string, make: () => Promise<void>, what: string, isSo: (seen: Seen) => boolean) => steps.run(title, async () => {
    const before = clock.monotonicMs()
    await make()
    const at = await calls.until(what, isSo, signal)
    steps.say(`  ${what}: ${Math.max(0, Math.round(at - before))} ms after the change was asked for`)
  })

  await change('taking batch off the list of db\'s callers', () =>
    operator.changeService({ ...services.db, callers: { patterns: [idOf('api')] } }),
  'batch is refused by db', seen => isSeen(seen, 'batch', 'db', false, idOf('batch')))

  const swapped = [
    { ...registrationOf('web', 'batch', one), entryId: entries['web'] ?? '' },
    { ...registrationOf('batch', 'web', one), entryId: entries['batch'] ?? '' }
  ]
  await change('letting the identities web and batch change their pods', () => operator.change(swapped),
    'pod batch calls api as web, and pod web is refused as batch', seen =>
      isSeen(seen, 'batch', 'api', true, idOf('web')) && isSeen(seen, 'web', 'api', false, idOf('batch')))

  await steps.run('starting one more workload in a pod of node-1, api-2, of which no entry knows', async () => {
    calls.add(await startWorkload('api-2', one, deps))
    await calls.until('api-2 to be nobody', seen => seen('api-2', 'db')?.allowed === false, signal)
  })
  await change('registering it as api, too', async () => { await operator.register([registrationOf('api', 'api-2', one)]) },
    'api-2 answers for api, and calls db as api', seen =>
      isSeen(seen, 'api-2', 'db', true, idOf('api')) && ['api', 'api-2'].every(pod => seen('batch', 'api')?.by.includes(pod)))
}

function isSeen (seen: Seen, from: string, to: string, allowed: boolean, peer: string): boolean {
  const outcome = seen(from, to)
  return outcome?.allowed === allowed && outcome.peer === peer
}
