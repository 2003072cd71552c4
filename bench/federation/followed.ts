import { setTimeout as sleep } from 'node:timers/promises'
import type { Row, Section, SuiteOptions } from '../suite.ts'
import { Follower, type FollowerName } from './follower.ts'
import { Partners } from './partners.ts'

export interface FollowedPlan {
  readonly count: number
  readonly refreshHintSeconds: number
  readonly idleMs: number
  readonly windowMs: number
}

interface Figures {
  readonly fetchesPerHour: number
  /** Of one core, in percent. */
  readonly idleCpu: number
  readonly cpu: number
  readonly idleMib: number
  readonly mib: number
}

const settleTimeoutMs = 180_000

/** Partners are followed by a server that nobody tells when to ask; one server after the other. */
export async function measureFollowed (
  names: readonly FollowerName[], plan: FollowedPlan, progress: SuiteOptions['progress']
): Promise<Section> {
  const { count, refreshHintSeconds, windowMs } = plan
  const measured = new Map<FollowerName, Figures>()
  for (const name of names) measured.set(name, await follow(name, plan, progress))
  const assay = measured.get('Assay') as Figures
  const spire = measured.get('SPIRE')
  const row = (what: string, unit: string, of: (figures: Figures) => number): Row =>
    ({ what, unit, values: [of(assay)], peer: spire && [of(spire)] })
  return {
    title: `${count} partners followed, refresh hint of ${refreshHintSeconds} s`,
    rows: [
      row('fetches per hour', '/h', ({ fetchesPerHour }) => fetchesPerHour),
      row('server CPU before there were partners, of one core', '%', ({ idleCpu }) => idleCpu),
      row('server CPU, of one core', '%', ({ cpu }) => cpu),
      row('server RSS before there were partners', 'MiB', ({ idleMib }) => idleMib),
      row('server RSS', 'MiB', ({ mib }) => mib)
    ],
    notes: [
      `By https_web, none changes, for ${windowMs / 1_000} s; on SQLite. Neither server asks a partner more often than once a minute.`
    ]
  }
}

async function follow (
  name: FollowerName, { count, refreshHintSeconds, idleMs, windowMs }: FollowedPlan, progress: SuiteOptions['progress']
): Promise<Figures> {
  await using partners = await Partners.open({ count, profile: 'https_web', refreshHintSeconds })
  await using follower = await Follower.start(name, partners, `${refreshHintSeconds}s`)
  progress(`${name}: idle for ${idleMs / 1_000} s`)
  await sleep(Math.min(idleMs, 10_000))
  const idle = await during(follower, partners, idleMs)
  await follower.follow(partners)
  progress(`${name}: begins to follow ${count} partners`)
  // The first polls come together, and are over.
  for (const end = performance.now() + settleTimeoutMs; partners.all.some(({ asked }) => asked < 2);) {
    if (performance.now() > end) throw new Error(`${name} did not ask all partners twice within ${settleTimeoutMs} ms`)
    await sleep(100)
  }
  progress(`${name}: follows for ${windowMs / 1_000} s`)
  const busy = await during(follower, partners, windowMs)
  return { fetchesPerHour: busy.perHour, idleCpu: idle.cpu, cpu: busy.cpu, idleMib: idle.mib, mib: busy.mib }
}

async function during (follower: Follower, partners: Partners, ms: number): Promise<{ perHour: number, cpu: number, mib: number }> {
  const [asked, cpuMs, begin] = [partners.asked, follower.cpuMs, performance.now()]
  await sleep(ms)
  const passed = performance.now() - begin
  return {
    perHour: (partners.asked - asked) * 3_600_000 / passed, cpu: (follower.cpuMs - cpuMs) * 100 / passed, mib: follower.residentMib
  }
}
