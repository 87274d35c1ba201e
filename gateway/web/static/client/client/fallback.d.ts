import type { FallbackClass } from '../client.js';

export declare const Fallback: FallbackClass;
