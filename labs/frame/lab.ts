import type { Need } from './needs.ts'
import type { Stage } from './stage.ts'

/** A lesson that runs: `labs/NAME.ts` exports one as `lab`, `docs/labs/NAME.md` tells it. */
export interface Lab {
  /** One line for the list. */
  readonly title: string
  /** What it cannot run without; where one is missing the lab is skipped, and says so. */
  readonly needs: readonly Need[]
  /** Who runs it unasked: `npm test` what takes a few seconds, `npm run test:soak` the others. */
  readonly proof: 'test' | 'soak'
  /** Throws where something is not as the lesson says. */
  play (stage: Stage): Promise<void>
}
