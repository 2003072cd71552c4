import { setTimeout as sleep } from 'node:timers/promises'
import type { Row, Section, SuiteOptions } from '../suite.ts'
import { BareFetch } from './bare-fetch.ts'
import { Follower, type FollowerName } from './follower.ts'
import { Partners, type Profile } from './partners.ts'

export interface AskedPlan {
  readonly count: number
  readonly rounds: number
  /** How often each partner is asked for what has not changed, in each round: for the clock's sake. */
  readonly repeats: number
  /** What beginning to follow leaves behind is done by then. */
  readonly settleMs: number
}

interface Figure { readonly cpuMs: number, readonly perSecond: number }
type Case = 'unchanged' | 'new'

const callers = 8
/** No poll of its own comes in between. */
const refreshHintSeconds = 3_600

/**
 * CPU of one fetch: each partner is asked when RefreshBundle says so. A turn for each server in each case of each round, and the floor.
 */
export async function measureAsked (
  profile: Profile, names: readonly FollowerName[], { count, rounds, repeats, settleMs }: AskedPlan, progress: SuiteOptions['progress']
): Promise<Section> {
  await using scope = new AsyncDisposableStack()
  const partners = scope.use(await Partners.open({ count, profile, refreshHintSeconds }))
  const ca = profile === 'https_web' ? partners.webRoot : undefined
  const bare = scope.use(await BareFetch.start({ urls: partners.urls, ca, callers }))
  const followers: Follower[] = []
  for (const name of names) {
    const follower = scope.use(await Follower.start(name, partners))
    await follower.follow(partners)
    await follower.refreshAll(partners, callers)
    followers.push(follower)
  }
  await sleep(settleMs)
  const figures = new Map<string, Figure[]>()
  const floor: number[] = []
  for (let round = -1; round < rounds; round++) {
    progress(`${profile}: ${round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`}`)
    for (const what of ['unchanged', 'new'] as const) {
      if (what === 'new') partners.rotateAll()
      for (const follower of round % 2 === 0 ? followers : followers.toReversed()) {
        const figure = await refresh(follower, partners, what === 'new' ? 1 : repeats)
        if (round >= 0) figures.set(`${follower.name} ${what}`, [...figures.get(`${follower.name} ${what}`) ?? [], figure])
      }
    }
    const bareMs = await bare.measure()
    if (round >= 0) floor.push(bareMs)
  }
  return sectionOf(profile, count, figures, floor)
}

async function refresh (follower: Follower, partners: Partners, times: number): Promise<Figure> {
  const [asked, cpu, begin] = [partners.asked, follower.cpuMs, performance.now()]
  for (let time = 0; time < times; time++) await follower.refreshAll(partners, callers)
  const [fetches, cpuMs, ms] = [partners.asked - asked, follower.cpuMs - cpu, performance.now() - begin]
  const wanted = times * partners.all.length
  if (fetches < wanted) throw new Error(`${follower.name} asked ${fetches} times instead of ${wanted}`)
  return { cpuMs: cpuMs / fetches, perSecond: fetches * 1_000 / ms }
}

function sectionOf (profile: Profile, count: number, figures: ReadonlyMap<string, readonly Figure[]>, floor: readonly number[]): Section {
  const valuesOf = (name: FollowerName, what: Case, key: keyof Figure) => figures.get(`${name} ${what}`)?.map(figure => figure[key])
  const rows = (what: Case): Row[] => [
    {
      what: `bundle ${what}: server CPU per fetch`, unit: 'ms',
      values: valuesOf('Assay', what, 'cpuMs') ?? [], peer: valuesOf('SPIRE', what, 'cpuMs')
    },
    {
      what: `bundle ${what}: fetches per second, ${callers} at a time`, unit: '/s', better: 'higher',
      values: valuesOf('Assay', what, 'perSecond') ?? [], peer: valuesOf('SPIRE', what, 'perSecond')
    }
  ]
  return {
    title: `${count} partners asked, ${profile}`,
    rows: [
      ...rows('unchanged'), ...rows('new'),
      { what: 'floor: HTTPS, JSON and certificates alone, in Node: CPU per fetch', unit: 'ms', values: floor }
    ],
    notes: [
      'Each by RefreshBundle, whose call is part of the figure. Two X.509 authorities and a JWT key in each bundle; on SQLite.',
      'What is unchanged Assay is not sent (304).',
      'The endpoints are in the bench\'s process, which shares the cores. The floor believes whoever answers in https_spiffe.'
    ]
  }
}
