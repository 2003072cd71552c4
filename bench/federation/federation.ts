import { findEnvoy } from '../../test/fakes/envoy.ts'
import { findSpireServer, withoutSpire } from '../measure/spire-server.ts'
import type { Section, SuiteOptions } from '../suite.ts'
import { measureAsked } from './asked.ts'
import { measureFollowed } from './followed.ts'
import { measureRotation } from './rotation.ts'

/** What 100 partners cost, beside a real SPIRE server where its program is given, and how soon Envoys have what a partner publishes. */
export async function runFederation ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  if (findEnvoy() === undefined) throw new Error('not measured: there is no Envoy: npm run setup')
  const spire = await findSpireServer()
  if (spire === undefined) progress(withoutSpire)
  const names = spire === undefined ? ['Assay'] as const : ['Assay', 'SPIRE'] as const
  const count = quick ? 4 : 100
  const plan = quick ? { count, rounds: 2, repeats: 5, settleMs: 500 } : { count, rounds: 7, repeats: 3, settleMs: 10_000 }
  const asked = [await measureAsked('https_web', names, plan, progress), await measureAsked('https_spiffe', names, plan, progress)]
  // SPIRE's shortest interval is too long for a short run.
  const followed = quick
    ? await measureFollowed(['Assay'], { count, refreshHintSeconds: 1, idleMs: 500, windowMs: 2_000 }, progress)
    : await measureFollowed(names, { count, refreshHintSeconds: 60, idleMs: 30_000, windowMs: 180_000 }, progress)
  const rotation = await measureRotation(
    quick ? { count, rounds: 2, windowMs: 1_000 } : { count, rounds: 60, windowMs: 20_000 }, progress)
  const about = spire === undefined ? withoutSpire : `SPIRE ${spire}, keys in memory, on SQLite. Ratios are round by round.`
  return [...asked, followed, rotation].map((section, index) => index > 0 ? section : { ...section, notes: [about, ...section.notes] })
}
