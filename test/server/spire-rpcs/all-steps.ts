import { agentSteps } from './agent-steps.ts'
import { authoritySteps } from './authority-steps.ts'
import { bundleSteps } from './bundle-steps.ts'
import { callerSteps, healthSteps } from './caller-steps.ts'
import { differingSteps } from './differing-steps.ts'
import { entrySteps } from './entry-steps.ts'
import type { Step } from './step.ts'
import { svidSteps } from './svid-steps.ts'
import { trustDomainSteps } from './trust-domain-steps.ts'

/** In an order in which nothing hangs on a server's own intervals. */
export const allSteps: readonly Step[] = [
  ...agentSteps, ...entrySteps, ...svidSteps, ...healthSteps, ...callerSteps, ...bundleSteps, ...trustDomainSteps,
  ...authoritySteps, ...differingSteps
]
