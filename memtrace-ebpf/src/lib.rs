#![no_std]
//! records
