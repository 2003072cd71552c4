import { testLab } from './check-lab.ts'

await testLab('attestation')
