import { findLabs } from '../../labs/frame/find-labs.ts'
import { testLab } from './check-lab.ts'

for (const { name, lab } of await findLabs()) if (lab.proof === 'soak') await testLab(name)
