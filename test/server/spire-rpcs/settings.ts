import { allSteps } from './all-steps.ts'
import { upstreamSteps, withoutJwtSteps } from './setting-steps.ts'
import type { Step } from './step.ts'

/** What is asked of a server, by how it is set up: as usual, with `disable_jwt_svids`, below an upstream authority. */
export const settings = {
  usual: allSteps, withoutJwt: withoutJwtSteps, upstream: upstreamSteps
} as const satisfies Record<string, readonly Step[]>
export type Setting = keyof typeof settings
export const settingNames = Object.keys(settings) as readonly Setting[]
